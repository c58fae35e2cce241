"""One sampler a file."""

from sgld_jax.kernels.sgld import SGLDState, sgld

__all__ = ["SGLDState", "sgld"]
