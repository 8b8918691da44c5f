"""Calls by address, which are compared with what is declared."""

import numba
import numpy as np
import pytest
from numba import types

from skae._compiled import batches, dispatch, elementwise, epochs, records
from skae._compiled.intrinsics import ADDRESS, beyond, call, call_at, integers, record
from skae._compiled.losses import LOSSES
from skae._compiled.records import BLOCK, MODEL, ROWS, TEAM


def right(team, model, rows, block, n):
    team, model = record(team, TEAM), record(model, MODEL)
    rows, block = record(rows, ROWS), record(block, BLOCK)
    call(team.ops, "copy", (model.params, model.params, n))
    call_at(team.forward, "copy", (model.params, model.params, n))
    call(team, "forward", (model, rows, block, team))


def of_copy(arguments):
    """Call `copy`, by its declaration, with what a function makes of the model's."""
    arguments = numba.njit(arguments)

    def function(team, model, rows, block, n):
        team, model = record(team, TEAM), record(model, MODEL)
        call(team.ops, "copy", arguments(model.params, n))

    return function


def another_record(team, model, rows, block, n):
    team, model = record(team, TEAM), record(model, MODEL)
    rows, block = record(rows, ROWS), record(block, BLOCK)
    call(team, "forward", (rows, model, block, team))


def number_that_is_read(team, model, rows, block, n):
    return integers(n)[0]


def called_number(team, model, rows, block, n):
    model = record(model, MODEL)
    call_at(n, "copy", (model.params, model.params, n))


def advanced_number(team, model, rows, block, n):
    beyond(n, n)


def compiled(function):
    signature = types.void(*[ADDRESS] * 4, types.int64)
    return numba.njit(signature)(function)


def test_calls_that_agree_with_the_declaration():
    compiled(right)


WRONG = {
    "too few": of_copy(lambda params, n: (params, params)),
    "number for an address": of_copy(lambda params, n: (params, n, n)),
    "address for a number": of_copy(lambda params, n: (params, params, params)),
    "float for a number": of_copy(lambda params, n: (params, params, n / 2)),
    "sum for an address": of_copy(lambda params, n: (params + 8 * n, params, n)),
    "another record": another_record,
    "number that is read": number_that_is_read,
    "called number": called_number,
    "advanced number": advanced_number,
}


@pytest.mark.parametrize("function", WRONG.values(), ids=WRONG)
def test_others_are_errors_when_they_are_compiled(function):
    with pytest.raises(numba.TypingError, match=r"takes|is no address"):
        compiled(function)


def test_an_op_of_another_kind_is_not_called():
    activations = np.zeros(2, dtype=np.int64)
    others = {"loss": LOSSES["huber"].op, "solver": elementwise.add}
    with pytest.raises(TypeError, match="solver takes"):
        dispatch.addresses("float32", activations, {False}, False, **others)


def test_python_gives_kernels_what_they_take():
    rng = np.zeros(3)
    model = records.Model(records.Network(rng, 1, 1, 1, 0, rng, 0, 1), rng)
    with pytest.raises(TypeError, match="summed_loss takes"):
        records.arguments_of(batches.summed_loss, (model, model))
    with pytest.raises(TypeError, match="finish_epoch takes"):
        records.arguments_of(epochs.finish_epoch, (model,))
