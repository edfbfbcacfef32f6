"""The hot loops of decoder and sampler in C, for CPUs; compiled on the machine that runs them."""
