"""Every kernel against the formula it stands for, in fp32 and bf16, in tiles of one and sixteen."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it

from tests.server.engine.cuda.tiles import Piece, step_of

pytest.importorskip("triton", reason="the kernels need Triton")

from server.engine.cuda.kernels.adapters import Share, shrink
from server.engine.cuda.kernels.attention import attend
from server.engine.cuda.kernels.gate import gate
from server.engine.cuda.kernels.heads import prepare_heads
from server.engine.cuda.kernels.norm import add_norm, embed
from server.engine.decoder import rotate

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["fp32", "bf16"])
# Single tokens; or pieces of texts of all lengths beside each other.
TILES = pytest.mark.parametrize("tile", [1, 16])
EPSILON = 1e-6


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal up to rounding of ``found``'s type; ``expected`` is computed in fp32 or better."""
    tolerance = TOLERANCE[found.dtype]
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Lora:
    """Adapters of one group of projections: ``inputs`` to ``outputs`` each, in memory side by side.

    ``before`` elements for each rank lie in front, as those of other layers do.
    """

    before = 16

    def __init__(
        self, inputs: int, outputs: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.inputs, self.outputs, self.dtype, self.device = inputs, outputs, dtype, device
        self.offset = self.before + inputs * len(outputs)

    def adapter(self, rank: int) -> torch.Tensor:
        size = self.offset + sum(self.outputs)
        return torch.randn(rank * size, device=self.device).to(self.dtype)

    def a(self, piece: Piece) -> torch.Tensor:
        """[projections, rank, inputs]."""
        assert piece.factors is not None
        part = piece.factors[piece.rank * self.before : piece.rank * self.offset]
        return part.view(len(self.outputs), piece.rank, self.inputs).float()

    def b(self, piece: Piece) -> list[torch.Tensor]:
        """[rank, outputs] of every projection."""
        assert piece.factors is not None
        part = piece.factors[piece.rank * self.offset :].view(piece.rank, -1).float()
        return list(part.split(self.outputs, dim=1))

    def pieces(self, tile: int, ranks: tuple[int, ...] = (4, 0, 20)) -> list[Piece]:
        """A text for each rank; 0 has no adapter."""
        counts = (1, 17, 35) if tile > 1 else (1, 1, 1)
        return [
            Piece(0, count, (0, 1, 2), self.adapter(rank) if rank else None, rank)
            for count, rank in zip(counts, ranks, strict=True)
        ]

    def added(self, pieces: list[Piece], shrunk: torch.Tensor) -> torch.Tensor:
        """[T, all outputs]: what the B of each piece's adapter makes of ``shrunk``."""
        out = torch.zeros(len(shrunk), sum(self.outputs), device=self.device)
        begin = 0
        for piece in pieces:
            rows = slice(begin, begin + piece.count)
            begin += piece.count
            if piece.rank:
                parts = shrunk[rows, : piece.rank * len(self.outputs)].split(piece.rank, dim=1)
                products = [h @ b for h, b in zip(parts, self.b(piece), strict=True)]
                out[rows] = torch.cat(products, dim=1)
        return out


@DTYPES
@TILES
def test_a_acts_on_the_tokens_of_its_adapter(
    tile: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Mixed ranks beside rows without one, whose part of the result is left alone."""
    lora = Lora(96, (32, 16, 16), dtype, device)
    pieces = lora.pieces(tile)
    step = step_of(pieces, device, tile=tile)
    x = torch.randn(step.count, 96, device=device).to(dtype)
    out = torch.full((step.count, 64), 7.0, device=device)
    shrink(x, step, offset=lora.before, projections=3, out=out)
    begin = 0
    for piece in pieces:
        rows = slice(begin, begin + piece.count)
        begin += piece.count
        width = 3 * piece.rank
        if piece.rank:
            expected = x[rows].float() @ lora.a(piece).flatten(0, 1).T
            torch.testing.assert_close(out[rows, :width], expected, rtol=1e-4, atol=1e-4)
        assert (out[rows, width:] == 7.0).all()


@DTYPES
@TILES
@pytest.mark.parametrize("width", [64, 300])
def test_norms_are_of_what_was_added(
    width: int, tile: int, dtype: torch.dtype, device: torch.device
) -> None:
    """The residual takes up the layer's output and the adapters' share of it."""
    lora = Lora(8, (width,), dtype, device)
    pieces = lora.pieces(tile)
    step = step_of(pieces, device, tile=tile)
    residual, added = torch.randn(2, step.count, width, device=device).to(dtype)
    weight = torch.rand(width, device=device).to(dtype)
    shrunk = torch.randn(step.count, 24, device=device)
    plain = F.rms_norm(residual.float(), (width,), weight.float(), EPSILON)
    close(add_norm(residual, None, weight, step, epsilon=EPSILON), plain)
    summed = residual.float() + added.float() + lora.added(pieces, shrunk)
    normed = add_norm(
        residual, added, weight, step, epsilon=EPSILON, share=Share(shrunk, lora.offset)
    )
    close(residual, summed)
    close(normed, F.rms_norm(summed, (width,), weight.float(), EPSILON))


@DTYPES
@TILES
@pytest.mark.parametrize("has_norm", [True, False])
def test_heads_are_normed_turned_and_kept(
    has_norm: bool, tile: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Queries stay, keys and values go to their places, and nothing else in the cache changes."""
    heads, kv_heads, head_dim, blocks = 4, 2, 16, 12
    lora = Lora(8, (heads * head_dim, kv_heads * head_dim, kv_heads * head_dim), dtype, device)
    pasts, tables = (3, 20, 40), ((7,), (1, 4, 2), (3, 0, 5, 9, 8))
    pieces = [
        Piece(past, each.count, table, each.factors, each.rank)
        for past, table, each in zip(pasts, tables, lora.pieces(tile), strict=True)
    ]
    step = step_of(pieces, device, tile=tile, padding=2 if tile == 1 else 0)
    qkv = torch.randn(step.count, (heads + 2 * kv_heads) * head_dim, device=device).to(dtype)
    shrunk = torch.randn(step.count, 64, device=device)
    norm = torch.rand(heads + kv_heads, head_dim, device=device).to(dtype) if has_norm else None
    cosines, sines = torch.randn(2, 99, head_dim // 2, device=device).repeat(1, 1, 2)
    keys, values = torch.full((2, blocks, kv_heads, 16, head_dim), 5.0, device=device).to(dtype)
    given = qkv.clone().float()
    real = [position for piece in pieces for position in piece.positions]
    given[: len(real)] += lora.added(pieces, shrunk[: len(real)])
    prepare_heads(
        qkv,
        keys,
        values,
        step,
        norm=norm,
        angles=(cosines, sines),
        epsilon=EPSILON,
        heads=heads,
        share=Share(shrunk, lora.offset),
    )
    split = given[: len(real)].view(len(real), -1, head_dim)
    qk, expected_values = split.split([heads + kv_heads, kv_heads], dim=1)
    if norm is not None:
        qk = F.rms_norm(qk, (head_dim,), None, EPSILON) * norm.float()
    turned = rotate(qk, cosines[real].unsqueeze(1), sines[real].unsqueeze(1))
    close(qkv[: len(real), : heads * head_dim], turned[:, :heads].flatten(1))
    places = [piece.blocks[at // 16] * 16 + at % 16 for piece in pieces for at in piece.positions]
    for cache, expected in ((keys, turned[:, heads:]), (values, expected_values)):
        flat = cache.transpose(1, 2).flatten(0, 1)
        close(flat[places], expected)
        others = [place for place in range(blocks * 16) if place not in places]
        assert (flat[others] == 5.0).all()


@DTYPES
@TILES
def test_the_gate_is_silu(tile: int, dtype: torch.dtype, device: torch.device) -> None:
    """Of its projection with the adapter's share, times the other with its share."""
    width = 200
    lora = Lora(8, (width, width), dtype, device)
    pieces = lora.pieces(tile)
    step = step_of(pieces, device, tile=tile)
    gate_up = torch.randn(step.count, 2 * width, device=device).to(dtype)
    shrunk = torch.randn(step.count, 48, device=device)
    left, right = gate_up.float().chunk(2, dim=1)
    close(gate(gate_up, step), F.silu(left) * right)
    left, right = (gate_up.float() + lora.added(pieces, shrunk)).chunk(2, dim=1)
    close(gate(gate_up, step, share=Share(shrunk, lora.offset)), F.silu(left) * right)


@DTYPES
@pytest.mark.parametrize(("tile", "splits"), [(1, 1), (1, 4), (16, 1)])
@pytest.mark.parametrize("group", [1, 2, 3])
def test_every_token_sees_its_own_text_up_to_itself(
    group: int, tile: int, splits: int, dtype: torch.dtype, device: torch.device
) -> None:
    """In blocks out of order, over memory that holds no numbers; rows that are none find zero."""
    kv_heads, head_dim, blocks = 2, 16, 40
    heads = group * kv_heads
    numbers = torch.randperm(blocks).tolist()
    keys, values = torch.full(
        (2, blocks, kv_heads, 16, head_dim), float("nan"), dtype=dtype, device=device
    )
    pieces, texts = [], []
    for length, count in ((1, 1), (16, 1), (17, 2), (130, 1), (150, 21)):
        table = [numbers.pop() for _ in range(-(-length // 16))]
        text = torch.randn(2, length, kv_heads, head_dim, dtype=dtype, device=device)
        for at in range(length):
            keys[table[at // 16], :, at % 16], values[table[at // 16], :, at % 16] = text[:, at]
        count = 1 if tile == 1 else count
        pieces.append(Piece(length - count, count, table))
        texts.append(text.float())
    padding = 2 if tile == 1 else 0
    step = step_of(pieces, device, tile=tile, padding=padding)
    qkv = torch.randn(step.count, (heads + 2 * kv_heads) * head_dim, device=device).to(dtype)
    found = attend(qkv, keys, values, step, heads=heads, splits=splits)
    rows = [(text, at) for text, piece in zip(texts, pieces, strict=True) for at in piece.positions]
    for token, (text, at) in enumerate(rows):
        query = qkv[token, : heads * head_dim].view(heads, head_dim).float()
        k, v = text[:, : at + 1].repeat_interleave(group, dim=2)
        weights = (torch.einsum("hd,lhd->hl", query, k) / head_dim**0.5).softmax(-1)
        close(found[token], torch.einsum("hl,lhd->hd", weights, v).flatten())
    assert not found[len(rows) :].any()


def test_tokens_that_are_not_read_come_from_the_step_before(device: torch.device) -> None:
    """Below zero they name the row that drew them."""
    embedding = torch.randn(50, 40, device=device)
    step = step_of([Piece(0, 4, tokens=(7, -1, 49, -3))], device, tile=16)
    drawn = torch.tensor([[11, -1], [12, -1], [13, -1]], dtype=torch.int32, device=device)
    found = embed(step, drawn, embedding)
    assert torch.equal(found, embedding[torch.tensor([7, 11, 49, 13], device=device)])
