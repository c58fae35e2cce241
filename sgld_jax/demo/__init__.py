"""The demo's experiment: what 16 Langevin chains of a small network know.

    python -m sgld_jax demo

Scikit-learn's digits, 0 to 7 known and 8 and 9 never seen, and one label in five wrong;
a Flax NNX network whose prior scales are sampled with its weights; beside it deep
ensembles by Adam of the same network with as many gradients, one of them with a prior
that a validation split chose for it. Read `experiment`: `curve`, `guesses`, `methods`
and `swarm` are its parts, `scoring` and `report` tell what came of it.
"""
