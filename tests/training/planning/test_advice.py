"""What is said when the memory was not enough: computed from the plan."""

from __future__ import annotations

from tests.training.conftest import MakePlan
from training.nn.packing import packs
from training.planning.advice import GIB, Memory, largest_forward, memory_advice


def test_the_largest_forward_is_the_one_the_loop_makes(make_plan: MakePlan) -> None:
    """Of each step, with dialogues that share a forward and such that do not."""
    for overrides in ((), ("training.batch_size=1", "prompt.max_length=100")):
        plan = make_plan(*overrides)
        for step in range(3):
            examples, limit = plan.step_examples(step), plan.tokens_per_forward
            made = [  # with the last token of each, which is not computed
                one.tokens + len(one.lengths) for one in packs(examples, limit, share=False)
            ]
            assert largest_forward(plan, step) == max(made)


def test_the_batch_is_split_as_far_as_needed(make_plan: MakePlan) -> None:
    """To at most half the tokens, with the same number of dialogues a step."""
    plan = make_plan(
        "training.batch_size=8", "training.gradient_accumulation=3", "prompt.max_length=100"
    )
    largest = largest_forward(plan, 0)
    assert 400 < largest <= 800

    advice = memory_advice(plan, 0, None)

    batch = max(size for size in (1, 2, 3, 4, 6) if size * 100 <= largest // 2)
    assert f"The largest forward of step 1 has {largest} tokens." in advice
    assert f"training.batch_size={batch} and " in advice
    assert f"training.gradient_accumulation={24 // batch}: as many dialogues a step" in advice
    assert f"at most {batch * 100} tokens a forward" in advice


def test_where_no_batch_is_small_enough_the_length_is(make_plan: MakePlan) -> None:
    """And it says how many dialogues that would cut."""
    plan = make_plan("training.batch_size=1", "training.gradient_accumulation=1")
    lengths = [len(example.ids) for example in plan.step_examples(0)]
    half = largest_forward(plan, 0) // 2

    advice = memory_advice(plan, 0, None)

    cut = sum(length > half for length in lengths)
    assert f"prompt.max_length={half}, which would cut {cut} of this step's 1 dialogues" in advice


def test_a_bound_on_the_forward_is_what_is_lowered(make_plan: MakePlan) -> None:
    """In throughput mode always, in exact mode where the recipe has one."""
    for mode, told in (("throughput", "."), ("exact", ": the same result in smaller forwards")):
        plan = make_plan(f"training.mode={mode}", "training.tokens_per_forward=700")
        half = largest_forward(plan, 0) // 2

        advice = memory_advice(plan, 0, None)

        assert f"Start anew with training.tokens_per_forward={half}{told}" in advice
        assert "batch_size" not in advice


def test_what_the_recipe_leaves_unused_is_named(make_plan: MakePlan) -> None:
    """Checkpointing and quantisation, with what the latter saves."""
    wasteful = make_plan("training.gradient_checkpointing=false", "quantization.kind=none")

    advice = memory_advice(wasteful, 0, None)

    assert "training.gradient_checkpointing=auto" in advice
    assert "quantization.kind=nf4 holds the base in 0.0 GiB instead of 0.0 GiB." in advice
    for setting in ("true", "auto"):
        plan = make_plan(f"training.gradient_checkpointing={setting}")
        sparing = memory_advice(plan, 0, None)
        assert "gradient_checkpointing" not in sparing
        assert "nf4" not in sparing


def test_memory_that_others_hold_is_named_first(make_plan: MakePlan) -> None:
    """No change of the recipe helps as much; a CUDA context of our own is no other process."""
    crowded = memory_advice(make_plan(), 0, Memory(total=8 * GIB, peak=2 * GIB, others=5 * GIB))
    alone = memory_advice(make_plan(), 0, Memory(total=8 * GIB, peak=7 * GIB, others=GIB // 2))

    assert "This process held 2.0 GiB of 8.0 GiB. Other processes hold 5.0 GiB: end them" in crowded
    assert "Other processes" not in alone


def test_a_failure_after_the_last_step_has_advice_too(make_plan: MakePlan) -> None:
    """The last validation comes when all steps are done."""
    plan = make_plan()

    assert "tokens" in memory_advice(plan, plan.total_steps, None)
