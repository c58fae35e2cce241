"""The demo's data: scikit-learn's digits, with one label in five replaced."""

from typing import NamedTuple

import numpy as np

NUM_TRAIN = 600
NUM_KNOWN = 8  # classes 0 to 7; the other two are never seen in training
WRONG = 5  # one label in so many


class Digits(NamedTuple):
    """All n = 1,797 digits: first the test images, then the unseen, then the training.

    Attributes:
      inputs: `[n, 64]`, pixels in [−.3, .7].
      truth: what each image shows, `[n]`.
      labels: `[n]`, what somebody wrote beside it: the truth, but for one in five of
        the training and of the test images, where it is one of the other seven.
      num_test: of the test images.
      num_unseen: of the eights and nines.
    """

    inputs: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    num_test: int
    num_unseen: int

    @property
    def test(self) -> slice:
        """Images of known classes that no net was trained on."""
        return slice(0, self.num_test)

    @property
    def unseen(self) -> slice:
        """Eights and nines."""
        return slice(self.num_test, self.num_test + self.num_unseen)

    @property
    def train(self) -> slice:
        """Images that the nets learn from."""
        return slice(self.num_test + self.num_unseen, len(self.truth))

    @property
    def training_data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels that the nets learn from."""
        return self.inputs[self.train], self.labels[self.train]

    @property
    def mislabelled(self) -> np.ndarray:
        """The training images whose label is wrong: places among all n."""
        wrong = self.labels[self.train] != self.truth[self.train]
        return self.train.start + np.flatnonzero(wrong)


def load(seed: int) -> Digits:
    """The digits, split and mislabelled at random."""
    from sklearn.datasets import load_digits

    inputs, truth = (np.asarray(x) for x in load_digits(return_X_y=True))
    rng = np.random.default_rng(seed)
    known = rng.permutation(np.flatnonzero(truth < NUM_KNOWN))
    train, test = known[:NUM_TRAIN], known[NUM_TRAIN:]
    unseen = np.flatnonzero(truth >= NUM_KNOWN)
    labels = truth.copy()
    for part in (train, test):
        wrong = rng.permutation(part)[: len(part) // WRONG]
        others = rng.integers(1, NUM_KNOWN, len(wrong))
        labels[wrong] = (truth[wrong] + others) % NUM_KNOWN
    order = np.concatenate([test, unseen, train])
    pixels = (inputs[order] / 16 - 0.3).astype(np.float32)
    return Digits(pixels, truth[order], labels[order], len(test), len(unseen))
