"""What a guess of the prior's scale costs: an ensemble much, a posterior little.

Nets and chains at several scales. The ensemble gets the scale that is best on a
validation split, held back with its labels as they are given; test labels show what the
others would have done. It could not learn the scale with the weights: the density of
(z, log s) is highest where the likelihood is, however wide the weights, and a mode
believes every label.
"""

from typing import NamedTuple

import jax
import numpy as np

from sgld_jax.analysis.predictive import predictive_probs
from sgld_jax.analysis.scores import nll
from sgld_jax.demo.digits import NUM_TRAIN, Digits
from sgld_jax.demo.methods import Lengths, Task, chains_by_sgld, nets_by_adam
from sgld_jax.demo.networks import digit_network

SCALES = (1.0, 2.0, 3.0, 4.0, 6.0, 9.0)
EACH = 2  # nets, or chains, at each scale
NUM_VALIDATION = 120  # of the training images


class Guesses(NamedTuple):
    """NLL at each of the `SCALES`, of labels as noisy as those learned from.

    Attributes:
      validation: of `EACH` nets by Adam, on the images held back.
      adam: of the same nets, on the test images.
      sgld: of `EACH` chains, on the test images.
    """

    validation: np.ndarray
    adam: np.ndarray
    sgld: np.ndarray

    @property
    def chosen(self) -> float:
        """The scale that is best for the ensemble, as far as validation tells."""
        return SCALES[int(np.argmin(self.validation))]


def judge(key: jax.Array, digits: Digits, lengths: Lengths) -> Guesses:
    """Trains and samples on all but the validation images."""
    inputs, labels = digits.training_data
    kept = NUM_TRAIN - NUM_VALIDATION
    data, held_back = (inputs[:kept], labels[:kept]), inputs[kept:]
    asked = np.concatenate([held_back, digits.inputs[digits.test]])
    answers = labels[kept:], digits.labels[digits.test]
    task = Task(digit_network(kept), data, asked)
    scales = np.repeat(SCALES, EACH)

    def scores(method, key) -> np.ndarray:  # [validation or test, scale]
        samples = method(key, task, lengths, len(scales), scales)
        by_scale = np.split(samples.params["logits"], len(SCALES))
        probs = [np.asarray(predictive_probs(x)) for x in by_scale]
        parts = zip(*(np.split(p, [NUM_VALIDATION]) for p in probs))
        return np.array([[nll(p, y) for p in ps] for ps, y in zip(parts, answers)])

    chain_key = jax.random.fold_in(key, 1)
    validation, adam = scores(nets_by_adam, key)
    _, sgld = scores(chains_by_sgld, chain_key)
    return Guesses(validation, adam, sgld)
