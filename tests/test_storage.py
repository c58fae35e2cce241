"""What can be put into a file, with which tool: the README's table, cell by cell.

A chain that has been stored goes on with the bits of one that has not.
"""

import copy
import pickle

import jax
import numpy as np
import optax
import pytest
from flax import serialization

import sgld_jax
from tests.runs import QUADRATIC, SAMPLER, arrays, assert_equal_bits, run


@pytest.fixture(scope="module")
def samples():
    return run(5)


def by_orbax(tree, folder):
    ocp = pytest.importorskip("orbax.checkpoint")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "tree", tree)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "tree", tree)


def by_pickle(tree, folder):
    (folder / "tree").write_bytes(pickle.dumps(tree))
    return pickle.loads((folder / "tree").read_bytes())


def by_deepcopy(tree, folder):
    del folder
    return copy.deepcopy(tree)


def by_msgpack(tree, folder):
    """As the README has it: keys as their data, and back as keys."""
    data = optax.tree.unwrap_random_key_data(tree)
    (folder / "tree").write_bytes(serialization.to_bytes(data))
    back = serialization.from_bytes(data, (folder / "tree").read_bytes())
    return jax.tree.map(_as_key, tree, back)


def by_numpy(tree, folder):
    data = optax.tree.unwrap_random_key_data(tree)
    np.savez(folder / "tree.npz", *jax.tree.leaves(data))
    with np.load(folder / "tree.npz", allow_pickle=False) as file:
        back = jax.tree.structure(data).unflatten(list(file.values()))
    return jax.tree.map(_as_key, tree, back)


def _as_key(like, x):
    is_key = jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(x, impl=jax.random.key_impl(like)) if is_key else x


TOOLS = [by_orbax, by_pickle, by_deepcopy, by_msgpack, by_numpy]


@pytest.mark.parametrize("store", TOOLS, ids=lambda f: f.__name__)
def test_a_stored_chain_goes_on_with_the_same_bits(store, samples, tmp_path):
    chain = store(samples.final, tmp_path)
    more = sgld_jax.resume(chain, SAMPLER, QUADRATIC, num_samples=3)
    assert_equal_bits(arrays(samples.concatenate(more)), arrays(run(8)))


@pytest.mark.parametrize("store", TOOLS, ids=lambda f: f.__name__)
def test_a_state_comes_back_with_its_key(store, tmp_path):
    state = sgld_jax.sgld(0.1, key=7).init(np.ones(3, np.float32))
    assert_equal_bits(store(state, tmp_path), state)


@pytest.mark.parametrize("store", [by_orbax, by_msgpack, by_numpy, by_pickle])
def test_draws_are_arrays_like_any(store, samples, tmp_path):
    assert_equal_bits(store({"x": samples.params}, tmp_path), {"x": samples.params})


def test_keys_are_refused_by_msgpack_and_numpy(samples, tmp_path):
    with pytest.raises(TypeError, match="key_data"):
        serialization.to_bytes(samples.final)
    with pytest.raises(TypeError, match="key_data"):
        np.savez(tmp_path / "tree.npz", *jax.tree.leaves(samples.final))


@pytest.mark.parametrize("store", [by_orbax, by_msgpack, by_numpy])
def test_whole_samples_are_refused(store, samples, tmp_path):
    with pytest.raises((TypeError, ValueError, AttributeError)):
        store(samples, tmp_path)


@pytest.mark.parametrize("store", [by_pickle, by_deepcopy])
def test_whole_samples_by_pickle(store, samples, tmp_path):
    back = store(samples, tmp_path)
    assert_equal_bits(arrays(back), arrays(samples))
    assert back.report._replace(begin=0) == samples.report._replace(begin=0)
