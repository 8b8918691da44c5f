"""Ops on blocks and vectors other than activations, losses and solvers."""

import numpy as np
from numba import carray

from skae._compiled.compilation import REDUCTION, as_op
from skae._compiled.intrinsics import is_null, like
from skae._compiled.vectors import use_whole_registers


@as_op("vvvnnn", REDUCTION)
def backward_units(delta, slope, gradient, n_units, n_rows, is_first):
    """Multiply delta by the slope (null: 1), and add unit j's sum to gradient[j].

    If `is_first`, the sum replaces gradient[j].
    """
    use_whole_registers()
    gradient = carray(gradient, n_units)
    for j in range(n_units):
        total = like(0.0, gradient[j])
        if is_null(slope):
            for i in range(j * n_rows, (j + 1) * n_rows):
                total += delta[i]
        else:
            for i in range(j * n_rows, (j + 1) * n_rows):
                product = delta[i] * slope[i]
                delta[i] = product
                total += product
        gradient[j] = total if is_first else gradient[j] + total


@as_op("vvn")
def copy(a, b, n):
    """Copy b to a."""
    use_whole_registers()
    a, b = carray(a, n), carray(b, n)
    for i in range(n):
        a[i] = b[i]


@as_op("vvn")
def add(a, b, n):
    """Add b to a, entry by entry."""
    use_whole_registers()
    a, b = carray(a, n), carray(b, n)
    for i in range(n):
        a[i] += b[i]


@as_op("vdnn", REDUCTION)
def add_sum(block, total, n_units, n_rows):
    """Add the sum of a block to total[0]; sums of a unit's rows are in the dtype."""
    use_whole_registers()
    block, total = carray(block, (n_units, n_rows)), carray(total, 1)
    whole = 0.0
    for j in range(n_units):
        part = like(0.0, block[0, 0])
        for i in range(n_rows):
            part += block[j, i]
        whole += np.float64(part)
    total[0] += whole


@as_op("vdn", REDUCTION)
def add_squares(values, total, n):
    """Add the sum of squares, in float64, to total[0]."""
    use_whole_registers()
    values, total = carray(values, n), carray(total, 1)
    squares = 0.0
    for i in range(n):
        squares += np.float64(values[i]) * np.float64(values[i])
    total[0] += squares
