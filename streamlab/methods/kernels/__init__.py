"""The training step of gated weights: state, blocks, random numbers, C and PyTorch kernels."""
