"""Triton kernels of a decode step, each beside its plain-torch reference and nothing else."""
