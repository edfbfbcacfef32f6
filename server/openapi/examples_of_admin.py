"""Examples of the admin's operations for the OpenAPI document, by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from server.console.recipes import recipe_cards
from server.wire.adapters import (
    AdapterCard,
    AdapterList,
    AdapterRun,
    BaseCard,
    EvaluationCard,
    RegisteredAdapter,
)
from server.wire.datasets import (
    CleaningCard,
    DatasetCard,
    DatasetInput,
    DatasetList,
    DatasetPreview,
    PreviewDialogue,
    PreviewSequence,
    PreviewSpan,
    RuleCard,
    RuleSample,
    SplitCard,
    UploadCard,
)
from server.wire.jobs import JobCard, JobList, JobProgress
from server.wire.logs import LogLine, LogLines
from server.wire.recipes import Pace, RecipeList, Recomputation, TrainingPlan
from server.wire.runs import (
    CheckpointCard,
    LogText,
    Point,
    RunCard,
    RunDetail,
    RunList,
    RunMetrics,
    SampleCard,
)
from server.wire.sweeps import (
    PlannedTrial,
    SweepCard,
    SweepDetail,
    SweepList,
    SweepPlan,
    TrialCard,
)

_STARTED = 1767225600.0
_DIGEST = "5f0c6bd1e2a94c7f8d3b1a60c9e4725db8f1036a7c52e94d0b6f83a1d7c4e952"
_RUN_ID = "cat-20260101-000000"
_JOB_ID = "20260101000000-5f0c6bd1"
_UPLOAD_ID = "5f0c6bd1e2a94c7f"
_TRAINING = {"dataset": "cat", "adapter": "cat", "recipe": "pocket", "base": "pocket"}

_SWEEP = """\
name = "ranks"
data = "cat"
base = "pocket"
recipe = "pocket"

[fields]
"lora.r" = [8, 16]
"""

REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "startRun": {
        "a training": _TRAINING,
        "a shorter one": _TRAINING | {"overrides": {"training.epochs": "1", "lora.r": "8"}},
    },
    "planRun": {"a training": _TRAINING | {"overrides": {"lora.r": "8"}}},
    "planSweep": {"two ranks": {"definition": _SWEEP}},
    "startSweep": {"two ranks": {"definition": _SWEEP}},
    "prepareDataset": {
        "an uploaded file": {"name": "lccc", "upload": _UPLOAD_ID, "rules": "lccc"},
    },
    "beginUpload": {"a file": {"name": "LCCC-base_train.json", "size": 932_000_000}},
    "continueUpload": {"a piece": '[["你好", "你好呀"]]'},
    "registerAdapter": {
        "a run's adapter": {"name": "cat", "run": _RUN_ID},
        "one from elsewhere": {"name": "cat", "path": "/srv/adapters/cat", "assume_base": True},
    },
    "mergeAdapter": {"in bf16": {"to": "pocket-cat"}},
    "evaluateAdapters": {
        "two beside their base": {
            "models": ["cat", "scholar"],
            "includes_base": True,
            "dataset": "cat",
            "replies": 50,
        },
    },
    "renameAdapter": {"another name": {"to": "kitten"}},
}

_RUN = RunCard(
    id=_RUN_ID,
    state="running",
    adapter="cat",
    base="pocket",
    dataset="cat",
    step=120,
    total_steps=250,
    started=_STARTED,
    updated=_STARTED + 30,
    best_step=120,
    validation_nll=2.31,
    error=None,
    digest=None,
)
_JOB = JobCard(
    id=_JOB_ID,
    kind="train",
    subject="cat",
    state="running",
    started=_STARTED,
    run=_RUN_ID,
    result=None,
    is_asked_to_cancel=False,
    progress=None,
    error=None,
    said="step 120/250  loss 2.310  5000 tokens/s",
    output="",
)
_SWEEP_JOB = msgspec.structs.replace(_JOB, kind="sweep", subject="ranks", run=None, said="")
_PROGRESS = JobProgress(stage="replies", subject="cat", done=32, total=114, share=0.55)
_DATASET = DatasetCard(
    name="cat",
    created="2026-01-01T00:00:00Z",
    sha256=_DIGEST,
    dialogues=882,
    characters=21_400,
    seed=0,
    drawn=["validation", "test"],
    inputs=[DatasetInput(name="cat.json", size=98_000, sha256=_DIGEST, pre_spaced=False)],
    splits={
        "train": SplitCard(dialogues=864, utterances=1_980, characters=20_960, lengths={20: 864})
    },
    cleaning=CleaningCard(
        version=1,
        read=884,
        kept=882,
        changed=3,
        dropped=2,
        rules=[
            RuleCard(
                name="duplicates",
                description="of equal dialogues one stays",
                is_on=True,
                utterances_changed=0,
                utterances_dropped=0,
                dialogues_dropped=2,
                examples=[RuleSample(before="在吗 / 在", after=None)],
            )
        ],
    ),
)
_SAMPLE = SampleCard(
    step=120, prompt="今天下雨了", reply="那就一起听雨吧喵～", expected="抱紧我喵～"
)
_UPLOAD = UploadCard(id=_UPLOAD_ID, name="LCCC-base_train.json", size=932_000_000, received=0)
_EVALUATION = EvaluationCard(
    dataset="cat",
    dataset_sha256=_DIGEST,
    split="test",
    dialogues=96,
    replies=96,
    conditions="greedy, at most 100 tokens; base float32",
    measured=int(_STARTED),
    metrics={"perplexity_per_character": 9.7, "bleu_4_characters": 12.1},
)
_REGISTERED = RegisteredAdapter(name="cat", digest=_DIGEST)

_TRIALS = (
    TrialCard(
        id="0b6f83a1d7",
        name="ranks-0b6f83a1d7",
        state="completed",
        values={"lora.r": 16},
        run="ranks-0b6f83a1d7-20260101-000000",
        has_run=True,
        step=250,
        total_steps=250,
        validation_nll=2.31,
        best_step=200,
        seconds=31.0,
        error=None,
    ),
    TrialCard(
        id="9e4725db8f",
        name="ranks-9e4725db8f",
        state="pending",
        values={"lora.r": 8},
        run=None,
        has_run=False,
        step=0,
        total_steps=None,
        validation_nll=None,
        best_step=None,
        seconds=None,
        error=None,
    ),
)
_SWEEP_CARD = SweepCard(
    name="ranks",
    dataset="cat",
    base="pocket",
    search="grid",
    fields=["lora.r"],
    is_running=True,
    is_asked_to_stop=False,
    can_go_on=True,
    trials=2,
    completed=1,
    failed=0,
    best="0b6f83a1d7",
    validation_nll=2.31,
    registered=None,
    updated=_STARTED + 60,
)


def _recipes() -> RecipeList:
    """One recipe with one field stands for all."""
    card = recipe_cards()[0]
    rank = next(field for field in card.fields if field.name == "r")
    return RecipeList(data=[msgspec.structs.replace(card, fields=[rank])], bases=["pocket"])


ANSWERS: Mapping[str, Any] = {
    "listRuns": RunList(data=[_RUN]),
    "retrieveRun": RunDetail(
        run=_RUN,
        recipe={"lora": {"r": 8}},
        changed=["lora.r"],
        checkpoints=[CheckpointCard(step=100, written=_STARTED, size_bytes=812_000, is_best=True)],
        samples=[_SAMPLE],
        warnings=[],
        has_adapter=False,
    ),
    "retrieveRunMetrics": RunMetrics(
        run=_RUN_ID,
        seq=14,
        dropped_after=None,
        curves={"loss": [Point(1, 20, 2.4, 3.9, 2.4), Point(21, 40, 2.1, 2.4, 2.2)]},
    ),
    "retrieveRunLog": LogText(text="2026-01-01 00:00:00 started\n", next=28, size=28),
    "startRun": _JOB,
    "stopRun": msgspec.structs.replace(_RUN, is_asked_to_stop=True),
    "resumeRun": msgspec.structs.replace(_JOB, kind="resume"),
    "listJobs": JobList(data=[_JOB]),
    "retrieveJob": _JOB,
    "cancelJob": msgspec.structs.replace(_JOB, is_asked_to_cancel=True),
    "listSweeps": SweepList(data=[_SWEEP_CARD], broken={}),
    "retrieveSweep": SweepDetail(sweep=_SWEEP_CARD, trials=list(_TRIALS), duplicates=0),
    "planSweep": SweepPlan(
        name="ranks",
        dataset="cat",
        base="pocket",
        search="grid",
        duplicates=0,
        trials=[
            PlannedTrial(
                name=one.name,
                state="pending",
                values=one.values,
                steps=250,
                seconds=31.0,
                disk=9_000_000,
            )
            for one in _TRIALS
        ],
        to_run=2,
        steps=500,
        seconds=62.0,
        disk=18_000_000,
    ),
    "startSweep": _SWEEP_JOB,
    "stopSweep": msgspec.structs.replace(_SWEEP_CARD, is_asked_to_stop=True),
    "resumeSweep": _SWEEP_JOB,
    "listRecipes": _recipes(),
    "planRun": TrainingPlan(
        recipe={"lora": {"r": 8}},
        changed=["lora.r"],
        base="pocket",
        dataset="cat",
        dialogues=864,
        replies=864,
        tokens_per_epoch=31_000,
        target_tokens_per_epoch=9_800,
        cut=0,
        steps=270,
        steps_per_epoch=54,
        dialogues_per_step=16,
        trainable_parameters=98_304,
        memory={"base": 3_000_000, "lora, gradients and optimizer": 1_572_864},
        memory_total=4_572_864,
        recomputation=Recomputation(
            setting="auto",
            layers=0,
            of=2,
            times=1.0,
            needed_with=3_900_000,
            needed_without=4_572_864,
            usable=11_000_000_000,
        ),
        disk=9_000_000,
        pace=Pace(seconds=31.0, tokens_per_s=5_000.0, run=_RUN_ID),
        is_served=True,
    ),
    "listLogLines": LogLines(
        data=[
            LogLine(
                seq=1,
                time=_STARTED,
                level="info",
                logger="server.registrar",
                text="Removed 'cat'.",
            )
        ],
        first=1,
    ),
    "listDatasets": DatasetList(data=[_DATASET], broken={}),
    "retrieveDataset": _DATASET,
    "previewDataset": DatasetPreview(
        split="train",
        first=1,
        total=864,
        data=[
            PreviewDialogue(
                dialog=["在吗", "在"],
                sequences=[
                    PreviewSequence(
                        spans=[
                            PreviewSpan(text="user       在吗\nassistant  ", is_target=False),
                            PreviewSpan(text="在", is_target=True),
                        ],
                        tokens=None,
                        target_tokens=None,
                    )
                ],
            )
        ],
    ),
    "prepareDataset": msgspec.structs.replace(_JOB, kind="prepare", subject="lccc", run=None),
    "beginUpload": _UPLOAD,
    "continueUpload": msgspec.structs.replace(_UPLOAD, received=16_777_216),
    "registerAdapter": _REGISTERED,
    "listAdapters": AdapterList(
        base=BaseCard(
            name="pocket",
            path="/srv/lccc/bases/pocket",
            kind="qwen3",
            layers=4,
            hidden_size=192,
            vocab_size=2048,
            context_length=1024,
            size_bytes=5_600_000,
            weights_sha256=_DIGEST,
            tokenizer_sha256=_DIGEST,
            template_sha256=_DIGEST,
            device="AMD EPYC 7763, 16 cores",
            weights="fp32",
            evaluations=[
                msgspec.structs.replace(
                    _EVALUATION,
                    metrics={"perplexity_per_character": 21.3, "bleu_4_characters": 4.6},
                )
            ],
        ),
        data=[
            AdapterCard(
                name="cat",
                digest=_DIGEST,
                created=int(_STARTED),
                base="pocket",
                rank=16,
                alpha=32.0,
                targets=["q_proj", "v_proj"],
                run=AdapterRun(id=_RUN_ID, dataset="cat", steps=250),
                metrics={"validation_nll": 2.31},
                size_bytes=1_600_000,
                is_resident=True,
                requests=12,
                evaluations=[_EVALUATION],
            )
        ],
        broken={},
    ),
    "mergeAdapter": msgspec.structs.replace(
        _JOB, kind="merge", subject="cat → pocket-cat", run=None
    ),
    "evaluateAdapters": msgspec.structs.replace(
        _JOB,
        kind="evaluate",
        subject="pocket, cat, scholar · cat",
        run=None,
        progress=_PROGRESS,
        said="replies: 25/114 cat",
    ),
    "renameAdapter": msgspec.structs.replace(_REGISTERED, name="kitten"),
    "downloadAdapter": "PK…",
}
