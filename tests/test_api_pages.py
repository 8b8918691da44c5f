"""The pages of the API group parameters, and name everything that is public."""

import inspect
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

import skae

DOCS = Path(__file__).parent.parent / "docs"
ESTIMATORS = [
    estimator
    for name in skae.__all__
    if inspect.isclass(estimator := getattr(skae, name))
    and issubclass(estimator, BaseEstimator)
]


@pytest.fixture
def api_pages(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return pytest.importorskip("api_pages")


@pytest.fixture(params=[*ESTIMATORS, "dask"], ids=str)
def names(request):
    """The parameters of an estimator, in order."""
    estimator = request.param
    if estimator == "dask":
        pytest.importorskip("distributed")
        estimator = skae.dask.DaskAutoencoderTransformer
    return list(inspect.signature(estimator).parameters)


def test_every_parameter_is_in_one_group(api_pages, names):
    in_groups = [n for group in api_pages.GROUPS for n in group.names.split()]
    assert len(set(in_groups)) == len(in_groups)
    assert set(names) <= set(in_groups)


def test_groups_are_together(api_pages, names):
    groups = [api_pages.GROUP_OF[name] for name in names]
    begins = [a for a, b in zip(groups, [None, *groups], strict=False) if a is not b]
    assert len(set(begins)) == len(begins)
    titles = [group.title for group in begins]
    assert len(set(titles)) == len(titles)


def test_guides_of_groups_exist(api_pages):
    pages = {page for group in api_pages.GROUPS for page in group.guide.split()}
    assert all((DOCS / "guide" / f"{page}.md").exists() for page in pages)


def test_headings_stand_before_their_groups(api_pages):
    lines = ["Summary.", "", ":Parameters:", ""]
    for name in ("n_components", "activation", "loss", "scale"):
        lines += [f"    **{name}** : int", f"        What {name} is.", ""]
    lines += [":Attributes:", "", "    **loss_** : float", "        The loss."]
    found = api_pages.with_groups(lines, "skae.Estimator")
    texts = [line.strip() for line in found]
    order = [
        *(":Parameters:", "`Network <#skae-estimator-network>`__ · "),
        *(".. rubric:: Network", ":name: skae-estimator-network"),
        *("Guide: :doc:`/guide/architecture`", "**n_components**", "**activation**"),
        *(".. rubric:: Loss and scale", "**loss**", "**scale**", ":Attributes:"),
    ]
    at = [next(i for i, t in enumerate(texts) if t.startswith(o)) for o in order]
    assert at == sorted(at)
    assert sum("rubric" in text for text in texts) == 2
    assert [line for line in found if line and line in lines] == [*filter(None, lines)]


def test_methods_and_versions_stand_before_the_parameters(api_pages):
    lines = ["Summary.", "", ":class:`int` does it.", "", ":Parameters:", ""]
    found = api_pages.with_methods(lines, ESTIMATORS[0])
    assert found.index("   fit") < found.index(":Parameters:")
    assert found.index(":class:`int` does it.") < found.index("   fit")
    found = api_pages.with_version(found)
    (at,) = [i for i, line in enumerate(found) if "versionadded" in line]
    assert found.index(":class:`int` does it.") < at < found.index(":Parameters:")
    assert api_pages.with_version(found) == found


def test_the_list_names_all_that_is_public(api_pages):
    modules = [module for task in api_pages.TASKS.values() for module in task]
    assert sorted(modules) == sorted(["skae", *(f"skae.{m}" for m in skae._MODULES)])
    for extra in ("dask.array", "distributed", "onnx"):
        pytest.importorskip(extra)
    text = api_pages.list_of_names()
    for module in skae._MODULES:
        for name in getattr(skae, module).__all__:
            assert f"\n   {name}\n" in text, name
