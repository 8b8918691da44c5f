"""Run a plan: train, report, and make the fitted attributes."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skae._compiled.epochs import INTERRUPTED, RUNNING
from skae._compiled.losses import LOSSES
from skae._compiled.optimizers import SOLVERS
from skae._compiled.schedules import SCHEDULES
from skae._data.rows import n_counted
from skae._model.inference import code_moments, mean_code
from skae._model.network import explained_variance, order_code
from skae._runtime.blas import single_threaded_blas
from skae._runtime.user_warnings import warn
from skae._training import loop
from skae._training.plan import Plan, Scaling, divergence_explained
from skae._training.reporting import (
    Curves,
    JoinedReports,
    Report,
    VerboseReport,
    print_end,
    warn_of_interrupt,
)
from skae._training.state import TrainingState
from skae._typing import Floats

# Returns the attributes of a fit that ends now, with these curves.
_AttributesNow: TypeAlias = Callable[[Curves], dict[str, Any]]


def run(
    plan: Plan, callback_report: Callable[[_AttributesNow], Report] | None = None
) -> dict[str, Any]:
    """Train as `fit` does.

    Parameters
    ----------
    plan : Plan

    callback_report : callable, default=None
        Makes the report for callbacks, which asks for the attributes.

    Returns
    -------
    attributes : dict
        The fitted attributes, by name.
    """
    training, begin = plan.training, time.monotonic()
    max_iter = training.solver.max_iter
    reports: list[Report] = _verbose_reports(plan)
    with training, divergence_explained(plan.estimator):
        kept: Callable[[], loop.Kept]
        kept = partial(loop.kept_weights, training, plan.initial_params)
        if plan.selection is not None:
            kept = plan.selection.kept_weights
            reports.append(plan.selection)

        def attributes_now(curves: Curves) -> dict[str, Any]:
            loop.check_finite(training, training.status)
            attributes = fitted_attributes(plan, kept(), curves)
            note_fit(attributes, plan)
            return attributes

        if callback_report is not None:
            reports.append(callback_report(attributes_now))
        report = JoinedReports(reports) if reports else None
        status, curves = loop.fit(
            training, plan.initial_params, max_iter, report, plan.n_done
        )
        try:
            attributes = attributes_now(curves)
        except KeyboardInterrupt:  # after the last epoch, or a second one
            status, attributes = INTERRUPTED, attributes_now(curves)
    _report_end(plan, status, attributes, time.monotonic() - begin)
    return attributes


def run_once(plan: Plan) -> dict[str, Any]:
    """Train as `partial_fit` does; returns the fitted attributes."""
    training, estimator = plan.training, plan.estimator
    before = training.state.params.copy()
    with training, divergence_explained(estimator):
        status, curves = loop.run(training, 1)
        loop.check_finite(training, status)
        if curves.loss:
            earlier = estimator.loss_curve_[-1:] if plan.is_warm_start else []
            loop.check_not_exploded(training, before, curves.loss[-1], earlier)
        attributes = fitted_attributes(plan, loop.Kept.last(training), curves)
    if status == INTERRUPTED:
        warn_of_interrupt()
    return attributes


# ---------------------------------------------------------------------------
# Reports
# ---------------------------------------------------------------------------


def _verbose_reports(plan: Plan) -> list[Report]:
    estimator = plan.estimator
    if not estimator.verbose:
        return []
    n_before = len(estimator.loss_curve_) if plan.is_warm_start else 0
    name, every_epoch = type(estimator).__name__, estimator.verbose > 1
    return [VerboseReport(name, n_before, every_epoch=every_epoch)]


def _report_end(
    plan: Plan, status: int, attributes: dict[str, Any], seconds: float
) -> None:
    """Print how training has ended, with `verbose`, and warn where needed."""
    estimator, solver = plan.estimator, plan.training.solver
    n_iter, max_iter = attributes["n_iter_"], solver.max_iter
    with_end = [how.kind for how in SCHEDULES.values() if how.has_end]
    is_planned = plan.keeps_pca or (
        estimator.solver in SOLVERS and solver.schedule in with_end
    )
    if estimator.verbose:
        reason = _reason(plan, status, n_iter)
        print_end(type(estimator).__name__, attributes, reason, seconds)
    if status == INTERRUPTED:
        warn_of_interrupt()
    elif status == RUNNING and n_iter == max_iter and not is_planned:
        warn(
            f"Maximum iterations ({max_iter}) reached and the optimization hasn't "
            f"converged yet. Increase max_iter (now {estimator.max_iter!r}) or tol "
            f"(now {estimator.tol}), or use learning_rate='cosine', which ends as "
            "planned.",
            ConvergenceWarning,
        )


def _reason(plan: Plan, status: int, n_iter: int) -> str:
    """Why training ended, in words."""
    solver = plan.training.solver
    if plan.keeps_pca:
        return "too few samples, or groups, to judge a training by"
    if status == INTERRUPTED:
        return "interrupted"
    if status == RUNNING:
        return "max_iter" if n_iter >= solver.max_iter else "ended by a callback"
    if plan.estimator.solver == "lbfgs" and not solver.watch_validation:
        return "converged"
    which = "validation" if solver.watch_validation else "training"
    return f"no lower {which} loss in {solver.n_iter_no_change} epochs"


# ---------------------------------------------------------------------------
# Fitted attributes
# ---------------------------------------------------------------------------


def fitted_attributes(plan: Plan, kept: loop.Kept, curves: Curves) -> dict[str, Any]:
    """The attributes of the fitted estimator, by name.

    Parameters
    ----------
    plan : Plan

    kept : Kept
        The weights to keep.

    curves : Curves
        Curves of this fit's epochs.
    """
    params = kept.params.copy()  # to be changed in place
    attributes = training_attributes(plan, kept, curves)
    attributes["_params"] = params
    attributes |= plan.estimator._code_attributes(plan, params)
    return attributes


def training_attributes(plan: Plan, kept: loop.Kept, curves: Curves) -> dict[str, Any]:
    """The `fitted_attributes` that need no pass over the samples."""
    estimator, training = plan.estimator, plan.training
    if plan.is_warm_start:
        curves = _curves_before(estimator).followed_by(curves)
    if not training.objective.validation.n_rows:
        curves = curves._replace(validation=[])  # only earlier fits had one
    watched = curves.validation or curves.loss
    # Earlier losses are those of another objective.
    watched = watched[max(0, training.solver.first_judged - 1) :] or watched
    start_loss = training.state.progress.start_loss
    widths = plan.architecture["widths"]
    attributes = {
        "n_components_": widths[len(widths) // 2],
        "n_layers_": len(widths),
        "hidden_layer_sizes_": tuple(widths[1 : len(widths) // 2]),
        "batch_size_": training.solver.batch_size,
        "n_iter_": training.n_epochs_of_fit,
        "best_iter_": kept.epoch,
        "initial_loss_": start_loss,
        "mean_": plan.scaling.mean,
        "scale_": plan.scaling.scale,
        "loss_curve_": curves.loss,
        "loss_": curves.loss[-1] if curves.loss else start_loss,
        "best_loss_": min(watched, default=start_loss),
        "_architecture": plan.architecture,
        "_offset": plan.scaling.offset,
        "_gaussian": None if plan.gaussian is None else plan.gaussian._asdict(),
        "_params": kept.params,
        "_training_state": _training_state(plan, kept),
    }
    if curves.validation:
        attributes["validation_loss_curve_"] = curves.validation
    if estimator._term_curve is not None:
        attributes[estimator._term_curve] = curves.term
    return attributes


def _training_state(plan: Plan, kept: loop.Kept) -> TrainingState:
    """The state from which another fit can continue."""
    estimator, training = plan.estimator, plan.training
    state = TrainingState(
        solver=estimator.solver,
        loss=estimator.loss,
        scale=estimator.scale,
        init=plan.init,
        initial_params=plan.initial_params,
        kept=kept.name,
        schedule=training.solver.schedule,
        **training.saved_state(),
    )
    if _is_without_spread(plan):
        state.constant = plan.first_rows.total_weight + plan.earlier_weight
        if plan.first_rows.has_missing:  # which features it had is not kept
            state.constant = 0.0
    if plan.selection is not None:
        selected = plan.selection.kept
        state.selected, state.selected_epoch = selected.params, selected.epoch
    return state


def _is_without_spread(plan: Plan) -> bool:
    """Whether `scale_` could not be determined, because all samples are equal."""
    estimator = plan.estimator
    is_scaled = LOSSES[estimator.loss].is_scaled and estimator.scale is not None
    is_constant = plan.scaling.total_variance == 0
    return is_scaled and not plan.is_warm_start and is_constant


def _curves_before(estimator: Any) -> Curves:
    """Curves of earlier fits."""
    return Curves(
        estimator.loss_curve_,
        getattr(estimator, "validation_loss_curve_", []),
        getattr(estimator, estimator._term_curve or "", []),
    )


def note_fit(attributes: dict[str, Any], plan: Plan) -> None:
    """Add the planned number of epochs to the fitted attributes."""
    training = plan.training
    attributes["max_iter_"] = plan.max_iter
    max_iter = training.solver.max_iter
    if training.is_cut_short and attributes["n_iter_"] < max_iter:
        attributes["_training_state"].cut_short_of = max_iter


@single_threaded_blas()
def code_attributes(plan: Plan, params: Floats) -> dict[str, Any]:
    """Fitted attributes of the code, which is ordered by changing `params` in place."""
    estimator, objective = plan.estimator, plan.training.objective
    network, rows = objective.network, plan.first_rows
    if objective.term is not None:
        return {"mean_activation_": mean_code(network, params, rows)}
    if estimator.code_activation != "identity":
        return {}
    moments = code_moments(network, params, rows)
    if not all(np.isfinite(moment).all() for moment in moments):
        raise loop.DivergedError
    # The scale of the code is free unless a tie or a penalty depends on it.
    free_scale = not plan.architecture["tied"] and objective.alpha == 0
    explained = order_code(network, params, moments, free_scale=free_scale)
    if not free_scale:
        activations = plan.architecture["activations"]
        explained = explained_variance(
            network,
            params,
            moments,
            plan.scaling.mean_seen,
            is_linear=not network.n_groups
            and {*activations[len(activations) // 2 :]} == {"identity"},
        )
    return _in_units(explained, n_counted(rows), plan.scaling)


def _in_units(explained: Floats, n_rows: int, scaling: Scaling) -> dict[str, Floats]:
    """The variance that each entry explains: in the data's units, and as a share."""
    total = scaling.total_variance
    # Rounding may make the sum larger than the total.
    explained = explained * min(1.0, total / (explained.sum() or 1.0))
    # Columns that are divided by numbers of their own have no common unit.
    scale = scaling.scale if isinstance(scaling.scale, float) else 1.0
    # n - 1 in the denominator, as for PCA; only ratios of sample weights count.
    unit = scale**2 * n_rows / max(1, n_rows - 1)
    dtype = scaling.mean.dtype
    return {
        "explained_variance_": (explained * unit).astype(dtype),
        "explained_variance_ratio_": (explained / (total or 1.0)).astype(dtype),
    }
