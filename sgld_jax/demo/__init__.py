"""The demo's experiment: what 16 Langevin chains of a small network know.

    python -m sgld_jax demo

Scikit-learn's digits, 0 to 7 known and 8 and 9 never seen; a Flax NNX network with
a Gaussian prior; 16 nets by Adam, which are the deep ensemble, and whose early
weights start 16 chains of SGLD. Ensemble and chains have the same network, prior
and data, and as many gradients. What came of it is told by `report`.
"""
