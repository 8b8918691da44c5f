"""What the pages of the API show beside the docstrings.

The list of public names by task; on the page of a class first its methods, then its
parameters in groups.
"""

import importlib
import inspect
import re
from typing import NamedTuple

# The headings of api.rst -> the modules whose public names stand there.
TASKS = {
    "Estimators": ("skae", "skae.dask"),
    "Inspection": ("skae.inspection",),
    "Metrics": ("skae.metrics",),
    "Data sets": ("skae.datasets",),
    "Files and ONNX models": ("skae.io", "skae.onnx"),
    "Callbacks": ("skae.callbacks",),
}


class Group(NamedTuple):
    """Parameters of estimators that belong together, and the guide to them."""

    title: str
    guide: str  # a page, or several
    names: str


GROUPS = (
    Group(
        "Network",
        "architecture",
        "n_components hidden_layer_sizes activation code_activation "
        "output_activation tied_weights",
    ),
    Group("Autoencoder", "detection imputation", "estimator"),
    Group("Loss and scale", "losses scaling", "loss scale"),
    Group(
        "Training",
        "training",
        "init solver alpha batch_size learning_rate learning_rate_init",
    ),
    Group(
        "Details of the solver",
        "training",
        "decay power_t momentum nesterovs_momentum beta_1 beta_2 epsilon",
    ),
    Group(
        "Stopping and validation",
        "training against_pca",
        "max_iter shuffle tol n_iter_no_change early_stopping validation_fraction",
    ),
    Group("Threshold", "detection", "contamination"),
    Group(
        "Missing values",
        "imputation missing",
        "missing_values sample_posterior add_indicator keep_empty_features",
    ),
    Group("Behavior", "reproducibility training", "warm_start random_state verbose"),
    Group("Noise", "denoising", "noise noise_level"),
    Group("Sparsity", "sparse", "sparsity sparsity_target sparsity_weight"),
    Group("Pretraining", "architecture", "pretrain"),
    Group("Distribution of the code", "variational", "beta kl_warmup"),
    Group(
        "Categories and gaps",
        "tables missing",
        "categorical_features categories max_categories min_frequency "
        "handle_unknown feature_weights",
    ),
    Group("Cluster", "dask", "client n_local_steps"),
)
GROUP_OF = {name: group for group in GROUPS for name in group.names.split()}

# Of public names whose docstrings name no other.
FIRST_RELEASE = "0.1"

# What numpydoc writes: a parameter; the beginning of a section.
_PARAMETER = re.compile(r"    \*\*(\w+)\*\* :")
_SECTION = re.compile(r":[A-Z][A-Za-z ]+:$|\.\. (rubric|seealso|warning)::")


def public_names(module):
    """Public names of a module: classes, then functions."""
    names = [n for n in module.__all__ if not n.startswith("__")]
    return sorted(names, key=lambda n: (not inspect.isclass(getattr(module, n)), n))


def list_of_names():
    """Text of api.rst."""
    lines = ["API", "===", ""]
    for title, modules in TASKS.items():
        lines += [title, "-" * len(title), ""]
        for name in modules:
            lines += [f".. automodule:: {name}", "", f".. currentmodule:: {name}", ""]
            lines += [".. autosummary::", "   :toctree: generated"]
            lines += ["   :nosignatures:", ""]
            names = public_names(importlib.import_module(name))
            lines += [*(f"   {n}" for n in names), ""]
    return "\n".join(lines)


def with_version(lines):
    """Lines of a docstring, which name the first release if they name none."""
    if any("versionadded::" in line for line in lines):
        return lines
    at = _end_of_summary(lines)
    return [*lines[:at], f".. versionadded:: {FIRST_RELEASE}", "", *lines[at:]]


def with_methods(lines, cls):
    """Lines of a class's docstring, with a table of its methods before the rest."""
    methods = [
        attribute
        for attribute in dir(cls)
        if not attribute.startswith("_") and callable(getattr(cls, attribute))
    ]
    if not methods:
        return lines
    at = _end_of_summary(lines)
    table = [".. rubric:: Methods", "", ".. autosummary::", "   :nosignatures:", ""]
    table += [*(f"   {method}" for method in methods), ""]
    return [*lines[:at], *table, *lines[at:]]


def with_groups(lines, name):
    """Lines of an estimator's docstring, with a heading before each group."""
    result, links, last, is_parameters = [], [], None, False
    for line in lines:
        if _SECTION.match(line):
            is_parameters = line == ":Parameters:"
        found = _PARAMETER.match(line) if is_parameters else None
        if found and GROUP_OF[found[1]] is not last:
            last = GROUP_OF[found[1]]
            anchor = re.sub(r"\W+", "-", f"{name}-{last.title}".lower())
            links.append(f"`{last.title} <#{anchor}>`__")
            guides = ", ".join(f":doc:`/guide/{page}`" for page in last.guide.split())
            result += [f"    .. rubric:: {last.title}", f"       :name: {anchor}"]
            result += ["       :class: group", "", f"    Guide: {guides}", ""]
        result.append(line)
    at = result.index(":Parameters:") + 2
    return [*result[:at], f"    {' · '.join(links)}", "", *result[at:]]


def _end_of_summary(lines):
    """Where the first section of a docstring begins."""
    return next((i for i, line in enumerate(lines) if _SECTION.match(line)), len(lines))
