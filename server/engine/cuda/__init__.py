"""The engine on a GPU: Triton kernels, steps as CUDA graphs, launched before others are read."""
