"""Samples that come in blocks."""

import contextlib
import gc
import itertools
import os
import pathlib
import sys

import numpy as np
from scipy import sparse

from .fits import assert_same_fit

N_ROWS = 150


class Blocks:
    """Makes iterators over blocks of rows, and counts those made and those closed."""

    def __init__(self, *blocks):
        self.blocks = blocks
        self.n_made = self.n_closed = 0

    @classmethod
    def of(cls, X, cuts=(1, 1, 57, 58, 140)):
        """Blocks of a matrix, cut before some rows; twice before one: an empty one."""
        bounds = [0, *cuts, X.shape[0]]
        return cls(*(X[a:b] for a, b in itertools.pairwise(bounds)))

    def __call__(self):
        self.n_made += 1
        try:
            yield from self.blocks_of_pass()
        finally:
            self.n_closed += 1

    def blocks_of_pass(self):
        return self.blocks


def typed(X, kind, dtype):
    X = X.astype(dtype)
    # A zero where a value is: counts and shares stay what they are.
    return sparse.csr_matrix(np.where(abs(X) > 0.3, X, 0)) if kind == "csr" else X


def assert_same_training(a, b):
    """Bit for bit, the state included."""
    assert_same_fit(a, b)
    states = a._training_state.as_dict(), b._training_state.as_dict()
    np.testing.assert_equal(*states)


class Later(Blocks):
    """Gives other blocks from a pass on."""

    def __init__(self, *blocks, others, from_pass):
        super().__init__(*blocks)
        self.others, self.from_pass = others, from_pass

    def blocks_of_pass(self):
        return self.others if self.n_made >= self.from_pass else self.blocks


def temporary_files(folder):
    """Files of a folder that have a name there, or that the process has open or mapped.

    On Linux temporary files have no name, but "(deleted)" behind that of the folder.
    """
    found = [str(path) for path in folder.iterdir()]
    if sys.platform == "linux":
        maps = pathlib.Path("/proc/self/maps").read_text("utf-8").splitlines()
        found += [line for line in maps if f"{folder}/" in line]
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # that of the listing itself
                target = os.readlink(f"/proc/self/fd/{descriptor}")
                found += [target] * target.startswith(f"{folder}/")
    return found


def has_no_temporary_files(folder):
    """Not even of objects that wait for the garbage collector, which takes its time."""
    return not temporary_files(folder) or not (gc.collect() and temporary_files(folder))
