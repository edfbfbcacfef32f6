"""The kernels, in Triton, and the functions that launch them.

Tokens of a step lie in tiles. A tile is one token (``tile`` 1: steps in which every reply gets one
token) or up to sixteen of one sequence (``tile`` 16: steps with pieces of prompts). Whatever a
kernel computes for a tile depends on that tile alone.

An adapter is an address and a rank (0: none); see :mod:`server.engine.cuda.adapter` for what lies
there. Its A acts in a kernel of its own (:mod:`.adapters`), or for a few tokens beside the linear
layer (:mod:`.project`); its B in whatever kernel reads the layer's output next.
"""

from __future__ import annotations

from server.engine.cuda.kernels.adapters import shrink
from server.engine.cuda.kernels.attention import attend
from server.engine.cuda.kernels.choose import choose
from server.engine.cuda.kernels.gate import gate
from server.engine.cuda.kernels.norm import add_norm, embed
from server.engine.cuda.kernels.precompile import precompile
from server.engine.cuda.kernels.project import project

__all__ = [
    "add_norm",
    "attend",
    "choose",
    "embed",
    "gate",
    "precompile",
    "project",
    "shrink",
]
