"""Validation images that are drawn from the training images, where there is no validation split."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DrawnSplit:
    """A split by names: the same share of each class, by a hash of seed and name, whatever the order of the files."""

    train: tuple[str, ...]
    """The training images, as `CLASS/NAME` sorted; NAME is below the folder of the class."""
    validation: tuple[str, ...]
    """The validation images, in the same way."""

    @property
    def fingerprint(self) -> str:
        """Hash of all names and the part that each is in."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation):
            for name in (*part, ""):
                digest.update(f"{name}\0".encode(errors="surrogatepass"))
        return digest.hexdigest()


def draw(keys: Sequence[str], labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return (N,) which images are for validation: of each class the ``share``, one at least, and never all.

    A class of a single image keeps it for training.

    Args:
        keys: names of the images, of which no two are equal in a class.
        labels: (N,) their classes.
        share: above 0 and below 1.
        seed: decides which.
    """
    ranks = ranks_of(keys, seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        count = min(max(round(share * len(own)), 1), len(own) - 1)
        chosen[own[np.argsort(ranks[own])[:count]]] = True
    return chosen


def draw_folds(keys: Sequence[str], labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return (N,) which fold each image validates in, from 1: of each class, and in all, as many as of the others.

    These numbers differ by one at most. A class of fewer images than folds is not in all of them.

    Args:
        keys: names of the images, of which no two are equal in a class.
        labels: (N,) their classes.
        folds: how many parts, at least 2.
        seed: decides which images are together.
    """
    ranks = ranks_of(keys, seed)
    found = np.zeros(len(labels), int)
    # Each class goes on where the one before ended, so that the folds are equally large.
    found[np.lexsort((ranks, labels))] = np.arange(len(labels)) % folds + 1
    return found


def ranks_of(keys: Sequence[str], seed: int) -> np.ndarray:
    """Return (N,) texts whose order is that of a draw by ``seed``."""
    given = (f"{seed} {key}".encode(errors="surrogatepass") for key in keys)
    return np.array([hashlib.blake2b(one, digest_size=16).hexdigest() for one in given])
