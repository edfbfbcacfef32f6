"""A base on a CPU, computed by the native kernels: packed weights, one call a step.

Every row is computed as it would be alone, bit for bit, whatever else is in the step and however
its prompt was cut into pieces.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from pathlib import Path

import torch

from server.engine.batch import Batch
from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.decoder import rope_table
from server.engine.lora import LoadedAdapter, LoraStack
from server.engine.native.adapter import FACTORS, PackedStack, packed_bytes
from server.engine.native.pack import PackedLinear, interleaved, pack
from server.engine.native.sampling import NativeSampler
from server.engine.native.structs import (
    FORMATS,
    LANES,
    MAX_HEAD_DIM,
    TIMES,
    AdapterStruct,
    LayerStruct,
    ModelStruct,
    StepStruct,
    declare,
)
from server.engine.pages import Pages
from server.engine.spec import DecoderSpec
from server.engine.steps import PlainSteps
from server.engine.weights import (
    ATTENTION,
    Checkpoint,
    joined,
    read_ends,
    read_norm,
    read_projection,
    read_qk_norm,
)

CPU = torch.device("cpu")


def is_supported(spec: DecoderSpec) -> bool:
    """Whether the kernels can do this shape: heads in whole vectors."""
    head_dim = spec.architecture.head_dim
    return head_dim % LANES == 0 and head_dim <= MAX_HEAD_DIM


class NativeModel:
    """The base of ``path`` with its linear layers in ``weight_format`` (fp32, bf16, int8 or nf4).

    In fp32, weights that are stored as bf16 stay so: the arithmetic is fp32 all the same. The head
    of an nf4 model has seven bits, in blocks too: it decides between 150,000 close calls.

    Raises:
        BaseInvalid: a tensor is missing or misshapen, or one would be ignored.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        path: Path,
        spec: DecoderSpec,
        weight_format: str,
        *,
        context_length: int,
    ) -> None:
        declare(library)
        self._library = library
        self.device = self.adapter_device = CPU
        self.adapter_dtype = torch.bfloat16 if weight_format == "bf16" else torch.float32
        self._spec = spec
        self._format = weight_format
        self._tensors: list[torch.Tensor] = []
        self._linears: list[PackedLinear] = []
        self._pages = Pages()
        self._threads = torch.get_num_threads()
        self._seconds = (ctypes.c_double * len(TIMES))()
        self._workspace = torch.empty(0, dtype=torch.uint8)
        with Checkpoint(path, None, CPU) as checkpoint:
            self._struct = self._model(checkpoint, context_length)
            checkpoint.refuse_unread(spec)

    @property
    def kv_dtype(self) -> torch.dtype:
        """Of the cache: fp32 where the weights' arithmetic is exact, else bf16."""
        return torch.float32 if self._format == "fp32" else torch.bfloat16

    @property
    def nbytes(self) -> int:
        """What the weights take in memory."""
        linears = sum(linear.nbytes for linear in self._linears)
        return linears + sum(tensor.nbytes for tensor in self._tensors)

    def timings(self) -> dict[str, float]:
        """Seconds spent so far, by kind of work."""
        return dict(zip(TIMES, self._seconds, strict=True))

    def steps(self, cache: KVCache, config: EngineConfig) -> PlainSteps:  # noqa: ARG002 - others need it
        return PlainSteps(self, cache, NativeSampler(self._library))

    def forward(
        self, batch: Batch, cache: KVCache, adapters: Sequence[LoadedAdapter | None]
    ) -> torch.Tensor:
        """Logits of the sampled tokens, [R, vocab] fp32; writes the others' keys and values too.

        ``adapters``: one a chunk.
        """
        logits = torch.empty(len(batch.sampled), self._spec.architecture.vocab_size)
        step, kept = self._step(batch, cache, adapters, logits)
        needed = self._library.lccc_workspace_bytes(self._struct, step)
        if needed > self._workspace.nbytes:
            self._workspace = torch.empty(needed + needed // 4, dtype=torch.uint8)
        step.workspace = self._workspace.data_ptr()
        self._library.lccc_forward(self._struct, step)
        del kept
        return logits

    def adapter_bytes(self, rank: int, targets: Sequence[str]) -> int:
        """What an adapter of this shape takes in memory."""
        return packed_bytes(self._spec.architecture, rank, targets, FACTORS[self._format])

    def packed(self, stack: LoraStack, rank: int) -> PackedStack:
        """An adapter's factors as the kernels read them."""
        shape, factor_format = self._spec.architecture, FACTORS[self._format]
        return PackedStack(stack, shape, rank=rank, factor_format=factor_format)

    def _step(
        self,
        batch: Batch,
        cache: KVCache,
        adapters: Sequence[LoadedAdapter | None],
        logits: torch.Tensor,
    ) -> tuple[StepStruct, list[object]]:
        """The C view of a step, and what has to live as long as it."""
        begins, counts, pasts = (
            array("i", each) for each in (batch.begins, batch.counts, batch.pasts)
        )
        tables = batch.tables.contiguous()
        structs, starts, rows, stacks = grouped(batch, adapters)
        keys = (ctypes.c_void_p * len(cache.keys))(*(each.data_ptr() for each in cache.keys))
        values = (ctypes.c_void_p * len(cache.values))(*(each.data_ptr() for each in cache.values))
        step = StepStruct(
            tokens=len(batch.tokens),
            chunks=len(counts),
            table_width=tables.shape[1],
            sampled=len(batch.sampled),
            adapters=len(structs),
            threads=self._threads,
            is_kv_bf16=self.kv_dtype == torch.bfloat16,
            token=batch.tokens.data_ptr(),
            position=batch.positions.data_ptr(),
            place=batch.places.data_ptr(),
            begin=address(begins),
            count=address(counts),
            past=address(pasts),
            table=tables.data_ptr(),
            sample=batch.sampled.data_ptr(),
            adapter=structs,
            adapter_start=address(starts),
            adapter_row=address(rows),
            keys=keys,
            values=values,
            logits=logits.data_ptr(),
            seconds=self._seconds,
        )
        return step, [begins, counts, pasts, tables, structs, starts, rows, stacks, keys, values]

    # Reading

    def _model(self, checkpoint: Checkpoint, context_length: int) -> ModelStruct:
        spec, shape = self._spec, self._spec.architecture
        embedding, head = read_ends(checkpoint, spec)
        if embedding.dtype != torch.bfloat16:
            embedding = embedding.float()
        cosines, sines = rope_table(spec, context_length, torch.empty(0))
        layers = (LayerStruct * shape.layers)()
        for index in range(shape.layers):
            layers[index] = self._layer(checkpoint, index)
        self._layers = layers  # C has its address
        linear = self._linear(head, None, "int7" if self._format == "nf4" else self._format)
        return ModelStruct(
            layers=shape.layers,
            hidden=shape.hidden_size,
            intermediate=shape.intermediate_size,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            vocabulary=shape.vocab_size,
            embedding_format=FORMATS["bf16" if embedding.dtype == torch.bfloat16 else "fp32"],
            epsilon=spec.norm_epsilon,
            query_scale=shape.head_dim**-0.5,
            embedding=self._keep(embedding),
            cosines=self._keep(cosines),
            sines=self._keep(sines),
            norm=self._keep(read_norm(checkpoint, "model.norm", spec).float()),
            head=linear.struct(),
            layer=layers,
        )

    def _layer(self, checkpoint: Checkpoint, index: int) -> LayerStruct:
        spec, stem = self._spec, f"model.layers.{index}"
        qk_norm = read_qk_norm(checkpoint, spec, index)

        def read(name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
            return read_projection(checkpoint, spec, index, name)

        (gate, gate_bias), (up, up_bias) = read("gate_proj"), read("up_proj")
        bias = None if gate_bias is None or up_bias is None else interleaved(gate_bias, up_bias)
        input_norm = read_norm(checkpoint, f"{stem}.input_layernorm", spec).float()
        mlp_norm = read_norm(checkpoint, f"{stem}.post_attention_layernorm", spec).float()
        return LayerStruct(
            input_norm=self._keep(input_norm),
            qk_norm=None if qk_norm is None else self._keep(qk_norm.float()),
            mlp_norm=self._keep(mlp_norm),
            qkv=self._linear(*joined([read(name) for name in ATTENTION])).struct(),
            output=self._linear(*read("o_proj")).struct(),
            gate_up=self._linear(interleaved(gate, up), bias).struct(),
            down=self._linear(*read("down_proj")).struct(),
        )

    def _linear(
        self, weight: torch.Tensor, bias: torch.Tensor | None, chosen: str | None = None
    ) -> PackedLinear:
        chosen = chosen or self._format
        if chosen == "fp32" and weight.dtype == torch.bfloat16:
            chosen = "bf16"
        linear = pack(self._library, weight, bias, chosen, self._pages.take)
        self._linears.append(linear)
        return linear

    def _keep(self, tensor: torch.Tensor) -> int:
        """The address of ``tensor``, which lives as long as this model."""
        self._tensors.append(tensor.contiguous())
        return self._tensors[-1].data_ptr()


def grouped(
    batch: Batch, adapters: Sequence[LoadedAdapter | None]
) -> tuple[ctypes.Array[AdapterStruct], array[int], array[int], list[PackedStack]]:
    """The adapters of a step, and for each the indices of its tokens: starts into one list."""
    rows: dict[str, array[int]] = {}
    stacks: dict[str, PackedStack] = {}
    for begin, count, adapter in zip(batch.begins, batch.counts, adapters, strict=True):
        if adapter is None:
            continue
        assert isinstance(adapter.stack, PackedStack)
        stacks[adapter.digest] = adapter.stack
        rows.setdefault(adapter.digest, array("i")).extend(range(begin, begin + count))
    starts, every = array("i", [0]), array("i")
    for own in rows.values():
        every.extend(own)
        starts.append(len(every))
    structs = (AdapterStruct * len(stacks))(*(stack.struct for stack in stacks.values()))
    return structs, starts, every, list(stacks.values())


def address(numbers: array[int]) -> int | None:
    """Where ``numbers`` lie in memory; nothing has no address."""
    return numbers.buffer_info()[0] if numbers else None
