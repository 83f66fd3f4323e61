"""The fused training step: blocks, counter-based random numbers, C and PyTorch."""
