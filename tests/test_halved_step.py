"""`compare_steps`: means of two steps, extrapolated to none, against exact ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import sgld_jax
from tests.law import Z

WELL = sgld_jax.from_log_density(lambda x: -((x**2 - 1) ** 2))


def square(x):
    return {"square": x**2, "size": jnp.abs(x)}


def exact(of):
    """By quadrature."""
    density = lambda x: np.exp(-((x**2 - 1) ** 2))  # noqa: E731
    mass = integrate.quad(density, -5, 5)[0]
    return integrate.quad(lambda x: of(x) * density(x), -5, 5)[0] / mass


def run(key, sampler, **kwargs):
    settings = {"num_chains": 2_000, "num_samples": 40, "burn_in": 400, "thinning": 20}
    init = lambda key: jnp.sign(jax.random.normal(key))  # noqa: E731
    return sgld_jax.sample(key, sampler, WELL, init, **settings | kwargs)


@pytest.mark.parametrize("kernel, order", [("sgld", 1), ("baoa", 2)])
def test_the_extrapolated_mean_is_that_of_the_target(kernel, order):
    """Where the coarse run is off by many errors, and the step ratio is 2."""
    friction = [0.5] if kernel == "baoa" else []
    make = getattr(sgld_jax, kernel)
    eps = 0.04 if kernel == "sgld" else 0.08
    coarse, fine = (
        run(i, make(step, *friction)) for i, step in enumerate((eps, eps / 2))
    )
    found = sgld_jax.compare_steps(coarse, fine, of=square, order=order)
    truth = {"square": exact(np.square), "size": exact(np.abs)}
    for name, value in truth.items():
        off = found.extrapolated[name] - value
        # To leading order: what is left is of the next one, a tenth of the bias.
        assert abs(off) < Z * found.error[name] + 0.1 * abs(found.bias[name])
        coarser, finer = found.coarse[name], found.fine[name]
        twice = {1: 2 * finer - coarser, 2: (4 * finer - coarser) / 3}
        assert found.extrapolated[name] == pytest.approx(twice[order])
    if kernel == "sgld":
        assert abs(found.z["square"]) > Z
        assert abs(found.coarse["square"] - truth["square"]) > 0.01
    assert found.bias["square"] == pytest.approx(
        found.fine["square"] - found.extrapolated["square"]
    )
    text = str(found)
    assert "no step" in text and "\nsquare " in text


def test_the_draws_themselves_and_any_ratio():
    """On a Gaussian the variance is 1/(1 − ε/2): 1.25 and 10/9 lead to .9444 + … ."""
    gaussian = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))

    def on_gaussian(key, step):
        return sgld_jax.sample(
            key,
            sgld_jax.sgld(step),
            gaussian,
            lambda key: jax.random.normal(key, (2,)),
            num_chains=1_000,
            num_samples=50,
            burn_in=40,
            thinning=8,
            collect=lambda x: x**2,
        )

    found = sgld_jax.compare_steps(on_gaussian(0, 0.3), on_gaussian(1, 0.1))
    expected = (3 / (1 - 0.05) - 1 / (1 - 0.15)) / 2
    np.testing.assert_array_less(np.abs(found.extrapolated - expected), Z * found.error)
    assert found.extrapolated.shape == (2,)


def test_chains_that_failed_are_left_out():
    """A step of which some chains run off, down the steep side."""
    with pytest.warns(UserWarning, match="chains have failed"):
        coarse = run(0, sgld_jax.baoa(0.12, 0.5), num_samples=10)
    assert 0 < coarse.failed.sum() < len(coarse.failed)
    fine = run(1, sgld_jax.baoa(0.06, 0.5), num_samples=10)
    found = sgld_jax.compare_steps(coarse, fine)
    assert np.isfinite(found.extrapolated)
    alive = coarse.params[~coarse.failed]
    assert found.coarse == pytest.approx(float(alive.mean(dtype=float)))


def test_what_is_refused():
    one, two = (run(i, sgld_jax.sgld(0.01), num_samples=4) for i in (0, 1))
    half = run(0, sgld_jax.sgld(0.005), num_samples=4)
    with pytest.raises(ValueError, match="expected the larger one first"):
        sgld_jax.compare_steps(one, two)
    with pytest.raises(ValueError, match="share keys"):
        sgld_jax.compare_steps(one, half)
    with pytest.raises(TypeError, match="coarse is a dict"):
        sgld_jax.compare_steps({}, half)
    decaying = run(2, sgld_jax.sgld(lambda count: 0.02 / (1 + count)), num_samples=4)
    with pytest.raises(ValueError, match="changes along the run"):
        sgld_jax.compare_steps(decaying, half)
