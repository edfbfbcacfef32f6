"""The engine on a GPU: Triton kernels, whole steps as CUDA graphs, launched ahead of their reading."""
