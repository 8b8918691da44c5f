"""Every example in the documentation and in docstrings runs."""

import csv
import doctest
import importlib
import inspect
import pkgutil
import re
import statistics
import sys
from pathlib import Path

import pytest

import skae
from skae.__main__ import build_parser, main

ROOT = Path(__file__).parent.parent
MODULES = ["skae", *(m.name for m in pkgutil.walk_packages(skae.__path__, "skae."))]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    if name.startswith("skae.inspection."):
        pytest.importorskip("matplotlib").use("Agg")
    if name == "skae.onnx":
        pytest.importorskip("skl2onnx")
    if name == "skae.callbacks":
        pytest.importorskip("sklearn.callback")
    try:
        failed, _ = doctest.testmod(importlib.import_module(name))
    finally:
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")
    assert failed == 0


DOCUMENTED = property, classmethod, staticmethod


def public_names():
    """Dotted names of what users are offered, and of its methods and properties."""
    for module in MODULES:
        if "._" in module:
            continue
        of_module = importlib.import_module(module)
        for name in getattr(of_module, "__all__", []):
            value = getattr(of_module, name)
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            yield f"{module}.{name}"
            if inspect.isclass(value):
                of_skae = [c for c in value.__mro__ if c.__module__.startswith("skae")]
                members = {member for c in of_skae for member in vars(c)}
                public = sorted(m for m in members if not m.startswith("_"))
                for member in public:
                    of_class = inspect.getattr_static(value, member)
                    if callable(of_class) or isinstance(of_class, DOCUMENTED):
                        yield f"{module}.{name}.{member}"


# A summary may be enough (ES01), what is returned has a name (RT02), and there may be
# nothing else to see (SA01); the first line is that of the quotes (GL01, of numpydoc
# before 1.8). Of members, the class has examples (EX01).
ALLOWED = {"ES01", "RT02", "SA01", "GL01"}
ALLOWED_OF_MEMBERS = ALLOWED | {"EX01"}


@pytest.mark.once
@pytest.mark.parametrize("name", [*public_names()])
def test_docstrings_are_numpydoc(name):
    validate = pytest.importorskip("numpydoc.validate").validate
    parent = name.rpartition(".")[0]
    is_member = parent not in MODULES
    found = dict(validate(name)["errors"])
    allowed = ALLOWED_OF_MEMBERS if is_member else ALLOWED
    assert {code: found[code] for code in found if code not in allowed} == {}


PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("benchmarks/*.md")]
)


def in_checkout(path):
    return path.relative_to(ROOT).as_posix()


def needed(path):
    """The path, if it is here."""
    return path if path.exists() else pytest.skip(f"no {path.name}: not a checkout")


BLOCK = re.compile(
    r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE
)


def python_blocks(path):
    """Triples of the number of the first line, the source, and what it prints.

    That is in a block of text right behind it; None if there is none.
    """
    text = path.read_text()
    for block in BLOCK.finditer(text):
        yield text.count("\n", 0, block.start(1)), block[1], block[2]


# What a page needs besides what skae does.
EXTRAS = {
    "README.md": ("pandas",),
    "docs/faq.md": ("matplotlib",),
    "docs/guide/detection.md": ("pandas",),
    "docs/guide/command_line.md": ("pandas",),
    "docs/guide/dask.md": ("dask.array", "distributed"),
    "docs/guide/imputation.md": ("pandas",),
    "docs/guide/inspection.md": ("matplotlib", "pandas"),
    "docs/guide/onnx.md": ("onnxruntime", "skl2onnx"),
    "docs/guide/out_of_core.md": ("h5py", "pandas", "pyarrow", "zarr"),
    "docs/guide/persistence.md": ("safetensors", "sklearn.callback", "skops"),
    "docs/guide/tables.md": ("pandas",),
    "docs/guide/training.md": ("matplotlib", "sklearn.callback"),
    "docs/tutorial.md": ("matplotlib", "pandas"),
}


class NearNumbers(doctest.OutputChecker):
    """Compares output, in which decimals may differ a little.

    Training leads to slightly other numbers with other versions of libraries, or on
    other processors. Whole numbers have to be equal.
    """

    DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d*(?![\w.])")
    PADDING = re.compile(r" +(?=[,\]])")  # behind 0.6 in a column with 0.42

    def check_output(self, want, got, optionflags):
        want, got = self.PADDING.sub("", want), self.PADDING.sub("", got)
        shown, found = self.DECIMAL.findall(want), self.DECIMAL.findall(got)
        if len(shown) == len(found) and all(map(self._are_near, shown, found)):
            replaced = iter(shown)
            got = self.DECIMAL.sub(lambda _: next(replaced), got)
        return super().check_output(want, got, optionflags)

    @staticmethod
    def _are_near(shown, found):
        """Within a tenth, or two units of the last digit that is shown."""
        unit = 10.0 ** -max(1, len(shown.partition(".")[2]))
        near = max(abs(float(shown)) / 10, 2 * unit)
        return abs(float(found) - float(shown)) < near + unit / 100


@pytest.mark.parametrize(
    "path", [p for p in PAGES if any(python_blocks(p))], ids=in_checkout
)
def test_python_blocks(path, tmp_path, monkeypatch, capsys):
    """Those of a page, one after the other: sessions, and what has no prompts."""
    monkeypatch.chdir(tmp_path)  # for files that they write
    for package in EXTRAS.get(in_checkout(path), ()):
        pytest.importorskip(package)
    names = {"__name__": "__main__"}
    for first_line, source, printed in python_blocks(path):
        if ">>> " in source:
            session = doctest.DocTestParser().get_doctest(
                source, names, path.stem, str(path), first_line
            )
            runner = doctest.DocTestRunner(checker=NearNumbers())
            assert runner.run(session, clear_globs=False).failed == 0
            names |= session.globs
        else:
            capsys.readouterr()
            exec(compile("\n" * first_line + source, str(path), "exec"), names)
            if printed is not None:
                found = capsys.readouterr().out
                assert NearNumbers().check_output(printed, found, 0), found
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def test_numbers_of_pages_are_compared():
    def is_right(want, got):
        return NearNumbers().check_output(want, got, doctest.NORMALIZE_WHITESPACE)

    assert is_right("(3, 0.91)\n", "(3, 0.97)\n")
    assert not is_right("(3, 0.91)\n", "(3, 0.80)\n")
    assert not is_right("(3, 0.91)\n", "(4, 0.91)\n")
    assert is_right("age  41.0  3.5\n", "age 39.5  3.75\n")
    assert not is_right("0.5 0.5\n", "0.5\n")


def test_python_blocks_are_found():
    needed(ROOT / "docs")
    found = {in_checkout(path) for path in PAGES if any(python_blocks(path))}
    assert found >= {"README.md", "docs/tutorial.md", "docs/guide/concepts.md"}
    printed = [printed for *_, printed in python_blocks(ROOT / "README.md")]
    assert len(printed) == 4
    assert None not in printed
    assert sum(path.read_text().count("```py") for path in PAGES) == sum(
        len(list(python_blocks(path))) for path in PAGES
    )


@pytest.mark.parametrize("path", PAGES, ids=in_checkout)
def test_links_lead_somewhere(path):
    """Those within the project; figures are drawn when the site is built."""
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if "://" not in target and "_figures/" not in target:
            assert (path.parent / target).exists(), target


def test_results_have_pages():
    """Each table that a benchmark writes is part of the site."""
    docs = needed(ROOT / "docs")
    included = {
        (path.parent / target).resolve()
        for path in docs.rglob("*.md")
        for target in re.findall(r"^```\{include\} (\S+)", path.read_text(), re.M)
    }
    assert included >= set((ROOT / "benchmarks").glob("*/*.md"))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "benchmarks").glob("*.md")), ids=in_checkout
)
def test_words_of_benchmarks_agree_with_tables(path):
    """Each decimal that a page writes about its results is one of them, rounded."""
    decimal = r"(?<![\w.])\d+\.\d+(?![\w.]\d)"
    words, _, rest = path.read_text().partition("```{include} ")
    results = (path.parent / rest.split()[0]).read_text()
    found = [float(number) for number in re.findall(decimal, results)]
    numbers = re.findall(decimal, words)
    assert numbers
    for number in numbers:
        digits = len(number.partition(".")[2])
        assert float(number) in [round(result, digits) for result in found], number


def test_report_of_the_command_line(tmp_path, monkeypatch):
    """The page names its paragraphs and files, and shows the report on a table."""
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    path = needed(ROOT / "docs") / "guide" / "command_line.md"
    monkeypatch.chdir(tmp_path)
    ((_, source, _),) = python_blocks(path)
    names = {}
    for example in doctest.DocTestParser().get_examples(source):
        exec(example.source, names)
    assert main(["--data", "wine.csv"]) == 0
    report = (tmp_path / "skae-demo" / "report.txt").read_text()
    page = path.read_text()
    shown = re.search(r"```text\n(.*?)```", page, re.DOTALL)[1]
    before = "PCA or autoencoder: with "  # digits behind it may depend on the processor
    until = shown.index("Code size: ")
    assert report[:until] == shown[:until]
    assert before in report
    assert before in shown
    of_report, of_files, of_options = (
        re.findall(r"^\| `?(.*?)`? \|", table, re.MULTILINE)[1:]
        for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    )
    assert [f"\n{name}" in f"\n{report}" for name in of_report] == [
        name != "Target" for name in of_report
    ]
    written = {path.name for path in (tmp_path / "skae-demo").iterdir()}
    assert set(of_files) == written
    options = build_parser().format_help()
    assert all(option.split()[0] in options for option in of_options)


@pytest.fixture
def images(monkeypatch, pyplot):
    """The module that draws the pictures of README."""
    monkeypatch.syspath_prepend(str(needed(ROOT / "docs")))
    return importlib.import_module("images")


def test_pictures_of_readme(images, tmp_path):
    images.draw_all(tmp_path)
    folder = ROOT / "docs" / "images"
    drawn = {path.name: path for path in tmp_path.iterdir()}
    assert drawn.keys() == images.DRAWN.keys()
    for name, path in drawn.items():
        assert path.stat().st_size < 120_000
        assert (folder / name).stat().st_size < 120_000
    network = "network.svg"  # matplotlib's pictures depend on its version
    assert drawn[network].read_text() == (folder / network).read_text()


def test_figures_beside_peers(images):
    """README has the least and the largest ratios of the benchmark."""
    ratios = images.ratios_of_peers()
    assert len(ratios) == 11
    assert set(images.NETWORKS) <= ratios.keys()
    text = " ".join((ROOT / "README.md").read_text().split())
    said = re.search(
        r"PyTorch takes ([\d.]+) to (\d+) times .*?, JAX ([\d.]+) to (\d+) times and "
        r"`MLPRegressor` ([\d.]+) to (\d+) times",
        text,
    )
    limits = iter(map(float, said.groups()))
    for solver in ("pytorch", "jax", "mlpregressor"):
        found = [of[solver] for of in ratios.values() if solver in of]
        assert next(limits) == pytest.approx(min(found), abs=0.05)
        assert next(limits) == pytest.approx(max(found), abs=0.5)


def test_figures_beside_pca():
    """README and guide say what the table of all cells says."""
    path = needed(ROOT / "benchmarks" / "defaults" / "held_out.csv")
    with path.open(newline="") as file:
        cells = list(csv.DictReader(file))
    gains = [float(c["autoencoder_test"]) - float(c["pca_test"]) for c in cells]
    standardised = [
        gain
        for gain, c in zip(gains, cells, strict=True)
        if c["scaling"] == "standardised"
    ]
    n_sets = str(len({c["set"] for c in cells}))

    def said(name, pattern):
        text = " ".join((ROOT / name).read_text().split())
        return re.search(pattern, text).groups()

    sets, cases, below, above, median = said(
        "README.md",
        r"On (\d+) data sets, .*? of (\d+) cases .*? within (0\.\d+) of PCA's .*?, "
        r"up to (0\.\d+) better; the median gain .*? is (0\.\d+)",
    )
    assert (sets, cases) == (n_sets, str(len(cells)))
    assert -float(below) <= min(gains) < 0.0005 - float(below)
    assert float(above) == pytest.approx(max(gains), abs=0.005)
    assert float(median) == pytest.approx(statistics.median(standardised), abs=0.005)
    sets, cases, below = said(
        "docs/guide/against_pca.md",
        r"on (\d+) data sets: no case of (\d+) .* than (0\.\d+)",
    )
    assert (sets, cases) == (n_sets, str(len(cells)))
    assert min(gains) >= -float(below)
