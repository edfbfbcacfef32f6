"""Every kernel against its formula: in tiles of one and of sixteen, in wide and narrow floats."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it

from server.engine.cuda.records import Records
from server.engine.cuda.sampler import FIELDS, Filler, Seen
from server.engine.cuda.step import Heads, Rows, Share, Split, Step
from server.engine.draw import Draw
from server.engine.sampling.edits import edit
from server.engine.types import SamplingParams
from tests.server.engine.cuda.formulas import Formulas
from tests.server.engine.cuda.tiles import Piece, step_of
from tests.server.engine.drawing import Oracle, draw_of

pytest.importorskip("triton", reason="needs Triton, whose interpreter runs kernels on the CPU")

from server.engine.cuda import kernels
from server.engine.cuda.kernels.choose import choose
from server.engine.cuda.kernels.multiply import Cut, cut_for, multiply

EPSILON = 1e-6
PER_ROW = ("tokens", "positions", "places", "starts", "counts", "rows", "ranks", "addresses")
# Of the norm of a difference to that of the whole.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
gpu = pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
# The interpreter has no bf16 products; single tokens need none.
every_kind = pytest.mark.parametrize(
    ("tile", "dtype"),
    [
        (1, torch.float32),
        (1, torch.bfloat16),
        (16, torch.float32),
        (16, torch.float16),
        pytest.param(16, torch.bfloat16, marks=gpu),
    ],
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Case:
    """A step of three texts with adapters of rank 4, none and 20, and random tensors for it.

    An adapter's factors are ``size`` random elements for each rank. Two more tokens are none at
    all, nor have two more tiles any.
    """

    def __init__(self, tile: int, dtype: torch.dtype, device: torch.device, size: int = 0) -> None:
        self.dtype, self.device = dtype, device
        factors = [self.random(rank * size) if rank else None for rank in (4, 0, 20)]
        counts = (1, 17, 3) if tile > 1 else (1, 1, 1)
        pasts, tables = (3, 20, 60), ((7,), (1, 4, 2), (3, 0, 5, 9))
        pieces = [
            Piece(past, count, table, own, rank)
            for past, count, table, own, rank in zip(
                pasts, counts, tables, factors, (4, 0, 20), strict=True
            )
        ]
        self.tokens = sum(counts)
        self.step = step_of(pieces, device, tile=tile, padding=2)
        self._kept = factors  # the step knows their addresses only

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device).to(self.dtype)

    def share(self, columns: int, offset: int) -> Share:
        return Share(torch.randn(self.step.count, columns, device=self.device), offset)


def on_cpu(value: Any) -> Any:
    """``value`` with copies on the CPU of all tensors in it."""
    if isinstance(value, torch.Tensor):
        return value.cpu().clone()
    if isinstance(value, Share):
        return Share(value.shrunk.cpu(), value.offset)
    if isinstance(value, tuple):
        return tuple(map(on_cpu, value))
    return value


def compare(case: Case, name: str, *given: Any, **named: Any) -> None:
    """The kernel's result, and what it left in its arguments, are those of the formula."""
    theirs = [on_cpu(value) for value in given], {key: on_cpu(named[key]) for key in named}
    step = step_on_cpu(case)
    expected = getattr(Formulas(), name)(
        *(step if value is case.step else value for value in theirs[0]), **theirs[1]
    )
    found = getattr(kernels, name)(*given, **named)
    for ours, formula in zip(flat(found, *given), flat(expected, *theirs[0]), strict=True):
        if isinstance(ours, torch.Tensor):
            rows = slice(case.tokens if len(ours) == case.step.count else None)
            close(ours[rows].cpu(), formula[rows])


def flat(*values: Any) -> list[Any]:
    """What is in tuples, and what is in none."""
    return [one for each in values for one in (each if isinstance(each, tuple) else (each,))]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Up to rounding of their type; what is no number is none in both."""
    assert torch.equal(found.isnan(), expected.isnan())
    difference = (found.double() - expected.double()).nan_to_num(0.0).norm()
    assert difference <= TOLERANCE[found.dtype] * expected.double().nan_to_num(0.0).norm()


def step_on_cpu(case: Case | Texts) -> Step:
    """The case's step with the same adapters in the CPU's memory."""
    step = case.step
    own = [None if each is None else each.cpu() for each in case._kept]
    case._kept = [*case._kept, *own]
    moved = {
        each.data_ptr(): mine.data_ptr()
        for each, mine in zip(case._kept, own, strict=False)
        if each is not None and mine is not None
    }
    addresses = torch.tensor([moved.get(int(one), 0) for one in step.addresses])
    names = ("tokens", "positions", "places", "starts", "counts", "rows", "ranks", "tables")
    parts = {name: getattr(step, name).cpu() for name in names}
    return Step(
        **parts, addresses=addresses, tile=step.tile, tiles=step.tiles, max_rank=step.max_rank
    )


@every_kind
def test_a_acts_on_the_tokens_of_its_adapter(
    tile: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Mixed ranks beside rows without one, whose part of the result is left alone."""
    case = Case(tile, dtype, device, size=16 + 3 * 96)
    out = torch.full((case.step.count, 64), 7.0, device=device)
    x = case.random(case.step.count, 96)
    named = {"offset": 16, "projections": 3}
    expected = out.cpu()
    Formulas().shrink(x.cpu(), step_on_cpu(case), out=expected, **named)
    kernels.shrink(x, case.step, out=out, **named)
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-4, atol=1e-4)
    assert (expected != 7.0).any()
    assert (expected == 7.0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "has_bias"), [(1, False), (3, True), (4, True), (4, False)])
def test_a_few_tokens_are_projected_and_shrunk_at_once(
    count: int, has_bias: bool, dtype: torch.dtype, device: torch.device
) -> None:
    """The linear layer of all tokens, one without an adapter and one that is none among them.

    Three are no power of two, and all that an engine with ``max_running=3`` has.
    """
    case = Case(1, dtype, device, size=16 + 3 * 80)
    case.step = replace(
        case.step, tiles=count, **{name: getattr(case.step, name)[:count] for name in PER_ROW}
    )
    x, weight = case.random(count, 80), case.random(90, 80)
    bias = case.random(90) if has_bias else None
    named = {"offset": 16, "projections": 3}
    out = torch.full((count, 64), 7.0, device=device)
    expected = out.cpu()
    Formulas().shrink(x.cpu(), step_on_cpu(case), out=expected, **named)
    found = kernels.project(x, weight, bias, case.step, out=out, **named)
    plain = kernels.project(x, weight, bias, case.step, out=None, **named)
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-4, atol=1e-4)
    close(found, F.linear(x.double(), weight.double(), None if bias is None else bias.double()))
    assert torch.equal(plain, found)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=gpu)])
@pytest.mark.parametrize("in_pieces", [True, False])
@pytest.mark.parametrize("inputs", [512, 300])
def test_some_tens_of_tokens_are_multiplied_and_shrunk_at_once(
    inputs: int, in_pieces: bool, dtype: torch.dtype, device: torch.device
) -> None:
    """Whole columns of inputs and a rest; the pieces add up to the layer, its bias once."""
    case = Case(1, dtype, device, size=16 + 3 * inputs)
    x, weight, bias = case.random(5, inputs), case.random(90, inputs), case.random(90)
    named = {"offset": 16, "projections": 3}
    out = torch.full((5, 64), 7.0, device=device)
    expected = out.cpu()
    Formulas().shrink(x.cpu(), step_on_cpu(case), out=expected, **named)
    for given, kept in ((bias, out), (None, out), (bias, None)):
        found = multiply(x, weight, given, case.step, out=kept, in_pieces=in_pieces, **named)
        assert found.dtype == (torch.float32 if in_pieces else dtype)
        wide = None if given is None else given.double()
        close(
            found.reshape(-1, 5, 90).sum(dim=0).to(dtype),
            F.linear(x.double(), weight.double(), wide),
        )
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("outputs", "in_pieces", "has_adapters", "cut"),
    [
        (4096, False, False, Cut(32, 1, 5)),
        (6144, False, False, Cut(64, 1, 4)),
        (6144, False, True, Cut(32, 1, 3)),
        (1024, True, True, Cut(16, 2, 4)),
        (64, True, False, Cut(16, 2, 4)),
    ],
)
def test_layers_are_cut_as_was_quickest(
    outputs: int, in_pieces: bool, has_adapters: bool, cut: Cut
) -> None:
    """The layers of Qwen3-0.6B, which were measured, and one that fills no GPU."""
    assert cut_for(outputs, in_pieces=in_pieces, has_adapters=has_adapters) == cut


@pytest.mark.parametrize("count", [2, 40])
def test_single_tokens_are_projected_whichever_way(count: int, device: torch.device) -> None:
    """As many as take another way give the same, with the products with A of each."""
    factors = torch.randn(4 * 80, device=device)
    step = step_of([Piece(3, factors=factors, rank=4)] * count, device, tile=1)
    x, weight = torch.randn(count, 80, device=device), torch.randn(90, 80, device=device)
    out = torch.zeros(count, 16, device=device)
    found = kernels.project(x, weight, None, step, offset=0, projections=1, out=out)
    close(found, F.linear(x.double(), weight.double()))
    close(out[:, :4], x.double() @ factors.view(4, 80).double().T)


@every_kind
def test_norms_are_of_what_was_added(tile: int, dtype: torch.dtype, device: torch.device) -> None:
    """The residual takes up the layer's output and the adapters' share; widths of any kind."""
    width = 300
    case = Case(tile, dtype, device, size=16 + width)
    residual, added = case.random(2, case.step.count, width)
    weight = case.random(width)
    compare(case, "add_norm", residual, None, weight, case.step, epsilon=EPSILON)
    share = case.share(24, 16)
    compare(case, "add_norm", residual, added, weight, case.step, epsilon=EPSILON, share=share)
    pieces = torch.randn(3, case.step.count, width, device=device)
    compare(case, "add_norm", residual, pieces, weight, case.step, epsilon=EPSILON, share=share)


@every_kind
def test_the_gate_is_silu(tile: int, dtype: torch.dtype, device: torch.device) -> None:
    """Of its projection with the adapter's share, times the other with its share."""
    width = 200
    case = Case(tile, dtype, device, size=16 + 2 * width)
    gate_up = case.random(case.step.count, 2 * width)
    compare(case, "gate", gate_up, case.step)
    compare(case, "gate", gate_up, case.step, share=case.share(48, 16))


# Attention

HEAD_DIM = 16


class Texts:
    """A step of the tokens of ``texts``, each past and count, and what attention is given for it.

    The ``cache`` holds the texts before these tokens, in blocks of their own out of order, and is
    no number elsewhere; ``last`` is the block before it, also none. Adapters have ``ranks`` in
    turn. Two more tokens are none at all, nor have two more tiles any.
    """

    def __init__(
        self,
        texts: Sequence[tuple[int, int]],
        device: torch.device,
        *,
        tile: int = 1,
        dtype: torch.dtype = torch.float32,
        group: int = 2,
        ranks: Sequence[int] = (0,),
        head_dim: int = HEAD_DIM,
    ) -> None:
        kv_heads, heads = 2, 2 * group
        width = (heads + 2 * kv_heads) * head_dim
        of_each = [ranks[at % len(ranks)] for at in range(len(texts))]
        self._kept = [self._random(dtype, device, 16 * rank + rank * width) for rank in of_each]
        sizes = [-(-(past + count) // 16) for past, count in texts]
        blocks = torch.randperm(sum(sizes)).split(sizes)
        pieces = [
            Piece(past, count, own.tolist(), factors if rank else None, rank)
            for (past, count), own, factors, rank in zip(
                texts, blocks, self._kept, of_each, strict=True
            )
        ]
        self.count = sum(piece.count for piece in pieces)
        self.step = step_of(pieces, device, tile=tile, padding=2)
        whole = torch.full((2, 1 + sum(sizes), kv_heads, 16, head_dim), float("nan"), dtype=dtype)
        for piece in pieces:
            for at in range(piece.past):
                place = slice(None), 1 + piece.blocks[at // 16], slice(None), at % 16
                whole[place] = torch.randn(2, kv_heads, head_dim).to(dtype)
        whole = whole.to(device)
        self.cache, self.last = whole[:, 1:].unbind(0), whole[:, 0]
        self.qkv = self._random(dtype, device, self.step.count, width)
        angles = torch.randn(2, 999, head_dim // 2, device=device).repeat(1, 1, 2).unbind(0)
        norm = self._random(dtype, device, heads + kv_heads, head_dim)
        self.heads = Heads(count=heads, norm=norm, epsilon=EPSILON, angles=(angles[0], angles[1]))
        self.share: Share | None = None
        if any(ranks):
            # Beyond what an adapter has, what lies there is not written by anybody.
            shrunk = torch.full((self.step.count, 16 * max(ranks)), float("nan"))
            rows = [rank for piece in pieces for rank in [piece.rank] * piece.count]
            for row, rank in enumerate(rows):
                shrunk[row, : 3 * rank] = torch.randn(3 * rank) / max(rank, 1) ** 0.5
            shrunk = shrunk.to(device)
            self.share = Share(shrunk, 16)

    @staticmethod
    def _random(dtype: torch.dtype, device: torch.device, *shape: int) -> torch.Tensor:
        return torch.randn(shape).to(device, dtype)

    def split(self, programs: int) -> Split | None:
        """By more than one program; the last counter is nobody's."""
        count = self.step.count * 2 + 1
        arrived = torch.zeros(count, dtype=torch.int32, device=self.qkv.device)
        arrived[-1] = 7
        return Split(programs, arrived) if programs > 1 else None

    def attend(self, split: Split | None = None) -> torch.Tensor:
        """What the kernel finds. It may change ``qkv``, so it gets a copy."""
        named = {"heads": self.heads, "share": self.share, "split": split}
        return kernels.attend(self.qkv.clone(), self.cache, self.step, **named)

    def check(self, split: Split | None = None) -> torch.Tensor:
        """What the kernel finds and keeps is what the formula does; nothing else is written."""
        cache, step = on_cpu(self.cache), step_on_cpu(self)
        norm, angles = on_cpu(self.heads.norm), on_cpu(self.heads.angles)
        heads = replace(self.heads, norm=norm, angles=angles)
        share = on_cpu(self.share)
        expected = Formulas().attend(self.qkv.cpu(), cache, step, heads=heads, share=share)
        found = self.attend(split)
        close(found[: self.count].cpu(), expected[: self.count])
        for ours, formula in zip(self.cache, cache, strict=True):
            close(ours.cpu(), formula)
        assert self.last.isnan().all()
        if split is not None:
            *counted, nobodys = split.arrived.tolist()
            assert (set(counted), nobodys) == ({0}, 7)
        return found


@pytest.mark.parametrize(
    ("tile", "programs", "group", "dtype"),
    [
        (1, 1, 3, torch.float32),
        (1, 4, 2, torch.float32),
        (1, 1, 2, torch.float16),
        (1, 4, 7, torch.float32),
        (1, 4, 8, torch.float16),
        (16, 1, 1, torch.float32),
        (16, 1, 3, torch.float16),
        pytest.param(1, 4, 2, torch.bfloat16, marks=gpu),
        pytest.param(16, 1, 2, torch.bfloat16, marks=gpu),
    ],
)
@pytest.mark.parametrize("is_plain", [True, False])
def test_every_token_sees_its_own_text_up_to_itself(
    is_plain: bool, group: int, tile: int, programs: int, dtype: torch.dtype, device: torch.device
) -> None:
    """With norms and adapters of mixed ranks or without, over memory that holds no numbers.

    Keys and values are kept in their places, of what is no token none, and nothing else changes.
    """
    texts = [(3, 1), (20, 1), (60, 1)] if tile == 1 else [(3, 1), (20, 17), (60, 3)]
    ranks = (0,) if is_plain else (4, 0, 20)
    case = Texts(texts, device, tile=tile, dtype=dtype, group=group, ranks=ranks)
    if is_plain:
        case.heads = replace(case.heads, norm=None)
    case.check(case.split(programs))


@pytest.mark.parametrize("programs", [1, 4, 32])
def test_texts_of_any_length_are_cut_into_parts(programs: int, device: torch.device) -> None:
    """Of one token, of whole blocks and one less or more, of fewer keys than programs.

    Adapters of no, small, and larger ranks than are read at once are side by side.
    """
    pasts = [0, 1, 15, 65, 16, 17, 64]
    case = Texts([(past, 1) for past in pasts], device, ranks=(0, 4, 20, 300))
    case.check(case.split(programs))


@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=gpu)])
@pytest.mark.parametrize("programs", [1, 8])
def test_parts_of_narrow_floats_are_longer(
    programs: int, dtype: torch.dtype, device: torch.device
) -> None:
    """More keys are looked at together; heads are as wide as models have them."""
    pasts = [0, 63, 64, 65, 200, 767]
    case = Texts([(past, 1) for past in pasts], device, dtype=dtype, ranks=(16,), head_dim=128)
    case.check(case.split(programs))


def test_counters_are_left_for_the_next_kernel(device: torch.device) -> None:
    """Which program is the last does not matter: the same comes again, to the last bit.

    Of more parts, too, than are read at once when they are merged.
    """
    case = Texts([(past, 1) for past in (500, 64, 3)], device, ranks=(4,))
    split = case.split(32)
    first = case.check(split)[: case.count]
    for _ in range(20 if device.type == "cuda" else 1):
        assert torch.equal(case.attend(split)[: case.count], first)


@pytest.mark.parametrize("programs", [1, 4])
def test_rows_that_are_none_write_nothing(programs: int, device: torch.device) -> None:
    """Not even where they name a place, a text and an adapter."""
    case = Texts([(40, 1), (50, 1)], device, ranks=(4,))
    there = case.step.positions.clone()
    there[:2] = -1
    case.step = replace(case.step, positions=there)
    before = [kept.clone() for kept in case.cache]
    split = case.split(programs)
    case.attend(split)
    for kept, old in zip(case.cache, before, strict=True):
        assert torch.equal(kept.nan_to_num(), old.nan_to_num())
        assert torch.equal(kept.isnan(), old.isnan())
    assert case.last.isnan().all()
    assert split is None or not split.arrived[:-1].any()


def test_tokens_that_are_not_read_come_from_the_step_before(device: torch.device) -> None:
    """Below zero they name the row that drew them."""
    embedding = torch.randn(50, 40, device=device)
    step = step_of([Piece(0, 4, tokens=(7, -1, 49, -3))], device, tile=16)
    drawn = torch.tensor([[11, -1], [12, -1], [13, -1]], dtype=torch.int32, device=device)
    found = kernels.embed(step, drawn, embedding)
    assert torch.equal(found, embedding[torch.tensor([7, 11, 49, 13], device=device)])


# The choice

VOCABULARY = 700
HISTORY = (5, 17, 5, 300, 699)
WAYS: list[dict[str, Any]] = [
    {"temperature": 0.0, "repetition_penalty": 1.3},
    {},
    {"min_p": 0.1, "temperature": 2.0},
    {"top_k": 9, "frequency_penalty": 1.0, "presence_penalty": -0.5},
    {"top_k": 690, "top_p": 0.7},
    {"top_p": 0.6, "repetition_penalty": 0.6},
    {"top_p": 0.0},
    {"top_k": 10, "top_p": 0.9, "min_p": 0.02, "temperature": 1.7},
]


class Choice:
    """Random logits and draws for them; the tensors that the kernel gets."""

    def __init__(self, draws: Sequence[Draw], logits: torch.Tensor, device: torch.device) -> None:
        self.draws, self.given = draws, logits
        self.logits = logits.clone().to(device)
        count = len(draws)
        self.seen = Seen(logits.shape[1], count, device)
        lines = self.seen.lines([draw.history for draw in draws], [0] * count)
        records = Records(FIELDS, count, device)
        Filler()(records.blank(), draws, lines, special=False)
        records.send(count)
        self.rows = Rows(**{name: records.column(name) for name, _, _ in FIELDS})
        self.drawn = torch.full((count, 2), -7, dtype=torch.int32, device=device)

    def run(self, **sizes: int) -> tuple[list[int], list[float]]:
        """Tokens and largest logits."""
        choose(self.logits, self.seen.counts, self.rows, self.drawn, size=len(self.draws), **sizes)
        found = self.drawn.cpu()
        return found[:, 0].tolist(), found.view(torch.float32)[:, 1].tolist()


@pytest.mark.parametrize(
    "sizes",
    [
        {"blocks": 8, "likeliest": 8, "room": 64},
        pytest.param({"blocks": 2, "likeliest": 8, "room": 4}, marks=pytest.mark.slow),
        pytest.param({"blocks": 16}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_choices_are_those_of_the_reference(sizes: dict[str, int], device: torch.device) -> None:
    """Edits bit for bit, the largest logit, and a token that the obvious way may draw."""
    draw = random.Random(1)
    draws = [
        draw_of(
            SamplingParams(**way), draw.random(), prompt=HISTORY, reply=(3, 3, at), withheld=(1, 9)
        )
        for at, way in enumerate(WAYS)
    ]
    choice = Choice(draws, torch.randn(len(WAYS), VOCABULARY) * 2, device)
    tokens, peaks = choice.run(**sizes)
    edited = choice.given.clone()
    edit(edited, draws)
    assert torch.equal(choice.logits.cpu(), edited)
    assert peaks == edited.max(dim=1).values.tolist()
    assert tokens[0] == int(edited[0].argmax())
    for row in range(1, len(WAYS)):
        assert Oracle(edited[row], draws[row]).accepts(tokens[row]), WAYS[row]
    for row, token in enumerate(tokens):
        history = draws[row].history
        assert history is not None
        history.add(token)
        counts = dict(zip(history.ids, (count + 1 for count in history.counts), strict=True))
        line = choice.seen.counts[int(choice.rows.wholes[row, 1])].cpu()
        assert {int(at): int(line[at]) for at in line.nonzero()} == counts


def rows_of_equals() -> Iterator[tuple[dict[str, Any], float, int]]:
    """How to filter four equal logits among others, a number, and the token that it draws."""
    yield {"top_p": 0.6}, 0.5, 300  # keeps the lower three
    yield {"top_p": 0.6}, 0.99, 500
    yield {"top_k": 2}, 0.99, 699  # keeps all that equal the second
    yield {"top_k": 2, "top_p": 0.3}, 0.99, 300
    yield {"temperature": 0.0}, 0.99, 40


def test_of_equals_the_lower_ids_are_kept(device: torch.device) -> None:
    """Top-k keeps all ties at its edge, top-p cuts between them, greedy takes the first."""
    ways = list(rows_of_equals())
    logits = torch.full((len(ways), VOCABULARY), -50.0)
    logits[:, [40, 300, 500, 699]] = 2.0
    draws = [draw_of(SamplingParams(**way), uniform) for way, uniform, _ in ways]
    tokens, _ = Choice(draws, logits, device).run(blocks=16)
    assert tokens == [token for _, _, token in ways]


def test_values_that_are_no_numbers_are_reported(device: torch.device) -> None:
    """The largest logit says so; a row that is skipped keeps what it had."""
    logits = torch.randn(4, VOCABULARY)
    logits[0, 3], logits[1, 3] = float("nan"), float("inf")
    logits[2] = float("-inf")
    choice = Choice([draw_of(SamplingParams(top_k=3))] * 4, logits, device)
    choice.rows.kind[3] = 0
    tokens, peaks = choice.run(blocks=16)
    assert [peak != peak for peak in peaks[:2]] == [True, True]  # noqa: PLR0124 - no numbers
    assert peaks[2] == float("-inf")
    assert all(0 <= token < VOCABULARY for token in tokens[:3])
    assert tokens[3] == -7
