"""Tests of ``python -m skae``."""

import _thread
import csv
import gzip
import io
import re
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import AutoencoderTransformer
from skae.__main__ import main
from skae._cli import demo, demo_data, report

from .support.reference import naive_r2

IRIS, SPECIES = load_iris(return_X_y=True)
SMALL = {"hidden_layer_sizes": (4,), "init": "random", "learning_rate": "cosine"}


@pytest.fixture(autouse=True)
def small_autoencoder(monkeypatch):
    """Keep the fits short."""
    monkeypatch.setattr(demo, "OF_DIGITS", dict(SMALL))
    monkeypatch.setattr(demo, "OF_FILES", dict(SMALL))
    detector = {"estimator": AutoencoderTransformer(1, max_iter=1)}
    monkeypatch.setattr(demo, "DETECTOR", detector)


@pytest.fixture
def job(tmp_path, capsys):
    """Run the command line on arguments; return its status and what it printed."""

    def run(*args, max_iter=3):
        output = [] if "--output" in args else ["--output", tmp_path / "out"]
        args = [*args, *output, "--max-iter", max_iter]
        status = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def failing_job(job):
    """Run the command line; return its message, checked to be one line."""

    def run(*args):
        status, _, err = job(*args)
        assert status == 2
        assert err.startswith("python -m skae: error: ")
        assert err.count("\n") == 1
        return err

    return run


@pytest.fixture
def figures(monkeypatch):
    """Collect the figures that are drawn."""
    pytest.importorskip("matplotlib").use("Agg")
    drawn, draw = [], demo.draw

    def spy(*args):
        drawn.append(draw(*args))
        return drawn[-1]

    monkeypatch.setattr(demo, "draw", spy)
    return drawn


def code_of(text):
    """Return the Python of a report."""
    return text.partition("To continue in Python:\n")[2].partition("\n\n")[0]


def save_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def read_table(folder):
    with (folder / "results.csv").open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


REPORTED = "report.txt", "columns.csv", "rows.csv"


# The whole job


@pytest.mark.parametrize("has_labels", [True, False])
def test_job(job, tmp_path, has_labels):
    """Every number of the table is that of a fit of its own."""
    labels = {"y": SPECIES} if has_labels else {}
    scaler, scaler_name = (
        (StandardScaler, "standard") if has_labels else (MinMaxScaler, "minmax")
    )
    data = save_npz(tmp_path / "iris.npz", X=IRIS, **labels)
    options = "--code-sizes", 3, 1, 3, "--cv", 2, "--scaler", scaler_name
    status, out, err = job("--data", data, *options, "--random-state", 5)
    assert (status, err) == (0, "")
    out.encode("ascii")  # what any terminal can print
    words = " ".join(out.split())
    assert "iris.npz: 112 training samples, 38 held out; 4 features\n" in out
    # A line per candidate, in the folds and in the fits that follow.
    for i, name in enumerate(["PCA", "autoencoder"]):
        for j, code_size in enumerate([1, 3]):
            line = rf"  {2 * i + j + 1}/4  {name}, code size {code_size} +R2 [-.\d]+ "
            assert len(re.findall(line, out)) == 2

    train, test = train_test_split(
        np.arange(150),
        test_size=0.25,
        random_state=5,
        stratify=SPECIES if has_labels else None,
    )
    X, X_test = IRIS[train], IRIS[test]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    table = read_table(tmp_path / "out")
    assert [row["code_size"] for row in table] == [1, 3]
    for row in table:
        n = int(row["code_size"])
        autoencoder = AutoencoderTransformer(n, **SMALL, max_iter=3, random_state=5)
        for name, reduction in {"pca": PCA(n), "autoencoder": autoencoder}.items():
            model = make_pipeline(scaler(), reduction)
            scores = [naive_r2(model.fit(X[a]), X[b]) for a, b in KFold(2).split(X)]
            assert row[f"{name}_cv_r2"] == pytest.approx(np.mean(scores), rel=1e-6)
            r2 = naive_r2(model.fit(X), X_test)
            assert row[f"{name}_r2"] == pytest.approx(r2, rel=1e-6)
            assert row[f"{name}_fit_seconds"] > 0
            assert f"{r2:z.3f}" in out
            if has_labels:
                fitted = classifier.fit(model.transform(X), SPECIES[train])
                accuracy = fitted.score(model.transform(X_test), SPECIES[test])
                assert row[f"{name}_accuracy"] == pytest.approx(accuracy)
        assert row["autoencoder_n_iter"] == 3
    measures = ["r2", *["accuracy"] * has_labels, "fit_seconds", "cv_r2"]
    pairs = [f"{name}_{m}" for m in measures for name in ("pca", "autoencoder")]
    assert [*table[0]] == ["code_size", *pairs, "autoencoder_n_iter"]

    assert table[0]["autoencoder_cv_r2"] < table[0]["pca_cv_r2"] - 0.1
    best = report.chosen_code_size([row["autoencoder_r2"] for row in table])
    numbers = ("1 number", "3 numbers")[best]
    pca, autoencoder = (
        f"{100 * max(table[best][f'{name}_r2'], 0):.0f} %"
        for name in ("pca", "autoencoder")
    )
    kept = f"with {numbers} per row PCA keeps {pca}, the autoencoder {autoencoder}."
    assert f"{kept} In the cross-validation: " in words
    assert "(+-: standard deviation over the 2 splits.) Recommended: PCA" in words
    assert ("ccuracy" in out) == has_labels
    if has_labels:
        accuracy = classifier.fit(X, SPECIES[train]).score(X_test, SPECIES[test])
        frequent = np.mean(SPECIES[test] == np.bincount(SPECIES[train]).argmax())
        codes = (
            f"{table[best][f'{name}_accuracy']:.3f}" for name in ("autoencoder", "pca")
        )
        expected = "Accuracy from the autoencoder's code: {}; from PCA's: {}; "
        expected = expected.format(*codes) + f"from all features: {accuracy:.3f}; "
        assert expected in words
        assert f"of the most frequent class alone: {frequent:.3f}." in words
    for name in (*("reconstructions.png", "results.csv"), *REPORTED):
        path = tmp_path / "out" / name
        assert f"Wrote {path}\n" in out
        assert path.stat().st_size > 100


def test_job_with_missing_values(job, figures, tmp_path):
    """PCA sees means, only what is observed is scored, and columns count equally."""
    X = np.where(np.random.default_rng(0).random(IRIS.shape) < 0.2, np.nan, IRIS)
    cells = X.round(1).astype(str).astype(object)
    cells[np.isnan(X)] = np.resize(["", "NA", "nan"], np.isnan(X).sum())
    cells[7] = "NA"  # a sample without any entry
    X[7] = np.nan
    path = tmp_path / "a.csv"
    path.write_text(csv_text([[*row, y] for row, y in zip(cells, KINDS, strict=True)]))
    status, out, err = job(
        "--data",
        path,
        "--target",
        -1,
        "--code-sizes",
        2,
        "--cv",
        2,
        "--random-state",
        5,
    )
    assert (status, err) == (0, "")
    share = 100 * np.isnan(X).mean()
    assert f"4 features; {share:.2g} % of the values are missing\n" in out
    assert "PCA saw means in place of missing values." in " ".join(out.split())
    train, test = train_test_split(
        np.arange(150), test_size=0.25, random_state=5, stratify=SPECIES
    )
    X = StandardScaler().fit(X[train]).transform(X)
    rows = np.nan_to_num(X)  # means are 0
    pca = PCA(2).fit(rows[train])
    restored = pca.inverse_transform(pca.transform(rows[test]))
    deviations = X[test] - np.nanmean(X[test], axis=0)
    r2 = 1 - np.nansum((restored - X[test]) ** 2) / np.nansum(deviations**2)
    (row,) = read_table(tmp_path / "out")
    assert row["pca_r2"] == pytest.approx(r2)
    (points,) = figures[0].axes[-2].collections
    n_drawn = 38 - (7 in test)
    assert points.get_offsets().shape == (n_drawn, 2)
    assert np.isfinite(points.get_offsets()).all()


def test_images_with_missing_pixels(job, figures, tmp_path):
    digits = load_digits().data[:60]
    gaps = np.random.default_rng(0).random(digits.shape) < 0.2
    path = save_npz(tmp_path / "a.npz", X=np.where(gaps, np.nan, digits))
    status, _, _ = job("--data", path, "--code-sizes", 2, "--cv", 2)
    assert status == 0
    picture = figures[0].axes[-1].images[0]
    assert picture.get_clim() == (0, 16)
    assert picture.get_cmap().get_bad().tolist() != picture.get_cmap()(0.1)


def test_digits_are_the_default(job, tmp_path):
    status, out, _ = job("--code-sizes", 2, "--cv", 2, "--no-plot", max_iter=1)
    assert status == 0
    assert "digits: 1347 training samples, 450 held out; 64 features" in out
    (row,) = read_table(tmp_path / "out")
    is_better = row["autoencoder_cv_r2"] > row["pca_cv_r2"]
    name = "autoencoder" if is_better else "PCA"
    words = " ".join(out.split())
    assert f"Best of all: {name}, code size 2 (R2 " in words
    assert re.search(r"Accuracy from all features: 0\.9\d\d; of the most", words)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.csv"]


@pytest.mark.parametrize(("n_features", "expected"), [(4, [1, 2, 3]), (2, [1])])
def test_default_code_sizes_are_those_that_reduce(job, tmp_path, n_features, expected):
    np.save(tmp_path / "a.npy", IRIS[:, :n_features])
    assert job("--data", tmp_path / "a.npy", "--no-plot")[0] == 0
    assert [row["code_size"] for row in read_table(tmp_path / "out")] == expected


def test_rare_classes_are_split_without_stratification(job, tmp_path):
    y = SPECIES.copy()
    y[0] = 7
    path = save_npz(tmp_path / "a.npz", X=IRIS, y=y)
    assert job("--data", path, "--code-sizes", 2, "--no-plot")[0] == 0


def test_without_matplotlib_the_table_is_still_written(job, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    data = save_npz(tmp_path / "iris.npz", X=IRIS)
    status, out, _ = job("--data", data, "--code-sizes", 2)
    assert status == 0
    assert 'pip install "skae[plot]"' in out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"columns.csv", "report.txt", "results.csv", "rows.csv"}


@pytest.mark.filterwarnings("ignore:Training interrupted")  # no error elsewhere
def test_interrupt(job, tmp_path, monkeypatch):
    class Interrupted(AutoencoderTransformer):
        def fit(self, X, y=None):
            threading.Timer(0.2, _thread.interrupt_main).start()
            return super().fit(X)

    data = save_npz(tmp_path / "iris.npz", X=IRIS)
    args = ["--data", data, "--code-sizes", 2, "--no-plot"]
    job(*args)  # so that everything is compiled
    monkeypatch.setattr(demo, "AutoencoderTransformer", Interrupted)
    monkeypatch.setitem(demo.OF_FILES, "n_iter_no_change", np.inf)
    status, out, err = job(*args, max_iter=1_000_000)
    assert status == 130
    assert err == "python -m skae: interrupted\n"
    assert "autoencoder" not in out  # it did not get to the next fold


# The picture


def curves(ax):
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_picture_of_images(job, tmp_path, figures):
    images, digits = load_digits(return_X_y=True)
    images, digits = images[:200], digits[:200]
    data = save_npz(tmp_path / "a.npz", X=images, y=digits)
    job("--data", data, "--code-sizes", 1, 2, 4, 5)
    table = read_table(tmp_path / "out")
    r2, accuracy, pictures = figures[0].axes
    reference = curves(accuracy)["all features"][0][1]
    assert 0.5 < reference < 1
    for ax, measure in ((r2, "r2"), (accuracy, "accuracy")):
        drawn = curves(ax)
        for name in ("PCA", "autoencoder"):
            column = f"{name.lower()}_{measure}"
            expected = [[row["code_size"], row[column]] for row in table]
            assert np.allclose(drawn[name], expected)
        low, high = ax.get_ylim()
        assert all(low < y < high for line in drawn.values() for _, y in line)
        assert ax.get_xticks().tolist() == [1, 2, 4, 5]
        pca, autoencoder = ax.lines[:2]
        assert pca.get_color() != autoencoder.get_color()
        assert (pca.get_marker(), autoencoder.get_marker()) == ("o", "s")
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels == ["PCA", "autoencoder", "all features"]

    # The first held-out row of each digit, reconstructed from a medium code size.
    train, test = train_test_split(
        np.arange(200), test_size=0.25, random_state=0, stratify=digits
    )
    first = [test[digits[test].tolist().index(digit)] for digit in range(10)]
    pca = make_pipeline(MinMaxScaler(), PCA(2)).fit(images[train])
    restored = pca.inverse_transform(pca.transform(images[first]))
    drawn = pictures.images[0].get_array()
    for i, row in enumerate(np.concatenate([images[first], restored])):
        top, left = 9 * (i // 10), 9 * (i % 10)  # a pixel lies between two images
        part = drawn[top : top + 8, left : left + 8]
        assert np.allclose(part, row.reshape(8, 8), atol=1e-6)
    assert [text.get_text() for text in pictures.get_yticklabels()] == [
        "original",
        f"PCA\nR² {table[1]['pca_r2']:z.2f}",
        f"autoencoder\nR² {table[1]['autoencoder_r2']:z.2f}",
    ]


def test_picture_of_other_rows(job, tmp_path, figures):
    np.save(tmp_path / "a.npy", IRIS)
    job("--data", tmp_path / "a.npy", "--code-sizes", 2)
    r2, ax, bars = figures[0].axes
    assert list(curves(r2)) == ["PCA", "autoencoder"]
    train, test = train_test_split(IRIS, test_size=0.25, random_state=0)
    autoencoder = AutoencoderTransformer(2, **SMALL, max_iter=3, random_state=0)
    errors = []
    for reduction in (PCA(2), autoencoder):
        model = make_pipeline(MinMaxScaler(), reduction).fit(train)
        restored = model.inverse_transform(model.transform(test))
        errors.append(np.sqrt(((test - restored) ** 2).sum(axis=1)))
    (points,) = ax.collections
    assert np.allclose(points.get_offsets(), np.transpose(errors))
    assert f"{np.mean(errors[1] < errors[0]):.0%} of the samples" in ax.get_title()
    shares = np.sort(r2_score(test, restored, multioutput="raw_values"))[::-1]
    widths = [bar.get_width() for bar in bars.patches]
    assert np.allclose(widths, np.maximum(shares, 0), atol=1e-5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("PCA", "autoencoder")


def test_images_without_labels_are_the_first(job, tmp_path, figures):
    images = load_digits().images[:60]
    np.save(tmp_path / "a.npy", images)
    job("--data", tmp_path / "a.npy", "--code-sizes", *range(1, 13))
    r2, pictures = figures[0].axes
    assert len(r2.get_xticks()) <= 10  # not one for each code size
    first = train_test_split(images, test_size=0.25, random_state=0)[1][9]
    assert np.array_equal(pictures.images[0].get_array()[:8, 81:], first)


# Reading


@pytest.mark.parametrize(
    ("arrays", "X", "y"),
    [
        ({"X": IRIS, "y": SPECIES}, IRIS, SPECIES),
        ({"X_train": IRIS, "y_train": SPECIES}, IRIS, SPECIES),
        ({"x": IRIS, "y": SPECIES[:, np.newaxis]}, IRIS, SPECIES),
        ({"X": IRIS, "X_train": IRIS[:50], "y_train": SPECIES[:50]}, IRIS, None),
    ],
)
def test_npz(tmp_path, arrays, X, y):
    data = demo_data.load(save_npz(tmp_path / "a.npz", **arrays))
    assert np.array_equal(data.X, X)
    assert y is data.y is None or np.array_equal(data.y, y)
    assert (data.name, data.image_shape) == ("a.npz", None)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, bool])
def test_dtypes(tmp_path, dtype):
    rows = (IRIS - IRIS.min()).round().astype(dtype)
    np.save(tmp_path / "a.npy", rows)
    X = demo_data.load(tmp_path / "a.npy").X
    assert X.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert np.array_equal(X, rows)


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [
        ((30, 64), (8, 8)),
        ((30, 65), None),
        ((30, 49), None),  # too small to be recognized as an image
        ((30, 5, 4), (5, 4)),
    ],
)
def test_images_are_recognized(tmp_path, shape, image_shape):
    X = np.random.default_rng(0).random(shape)
    np.save(tmp_path / "a.npy", X)
    data = demo_data.load(tmp_path / "a.npy")
    assert data.image_shape == image_shape
    assert np.array_equal(data.X, X.reshape(30, -1))


def csv_text(rows, header="", separator=","):
    return header + "".join(separator.join(map(str, row)) + "\n" for row in rows)


KINDS = ["abc"[label] for label in SPECIES]
NAMED = csv_text([[*x, y] for x, y in zip(IRIS, KINDS, strict=True)])
HEADER = "w,x, y,z, kind \n"
MIDDLE = [[*x[:2], y, *x[2:]] for x, y in zip(IRIS, SPECIES, strict=True)]


@pytest.mark.parametrize(
    ("text", "target", "y"),
    [
        (HEADER + NAMED, "kind", KINDS),
        (HEADER + NAMED, "4", KINDS),
        (HEADER + NAMED, "-1", KINDS),
        (NAMED, "-1", KINDS),  # text among the labels makes no header
        (csv_text(MIDDLE), "2", SPECIES.tolist()),
        (csv_text(IRIS), None, None),
        (csv_text(IRIS, "w,x,y,z\n"), None, None),
        (csv_text(IRIS, '"w, m",x,y,z\n'), None, None),
        (csv_text(IRIS, separator=" , ").replace("\n", "\n\n") + " ,\n", None, None),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv(tmp_path, text, target, y, encoding):
    (tmp_path / "a.CSV").write_text(text, encoding=encoding)
    data = demo_data.load(tmp_path / "a.CSV", target)
    assert np.array_equal(data.X, IRIS)
    assert (data.y is None and y is None) or data.y.tolist() == y


@pytest.mark.parametrize(
    "cell", ["", "NA", "n/a", "NaN", "-nan", "<NA>", "null", "None"]
)
@pytest.mark.parametrize("header", ["w,x,y,z\n", ""])
def test_missing_cells(tmp_path, cell, header):
    """Also in the first line, which is no header because of them."""
    cells = IRIS.astype(object)
    cells[[0, 3, 9], [1, 0, 3]] = cell
    (tmp_path / "a.csv").write_text(csv_text(cells, header))
    data = demo_data.load(tmp_path / "a.csv")
    assert np.argwhere(np.isnan(data.X)).tolist() == [[0, 1], [3, 0], [9, 3]]
    assert np.array_equal(np.where(np.isnan(data.X), IRIS, data.X), IRIS)


# Errors: one line, status 2

WITH_INF = np.where(np.arange(600).reshape(150, 4) == 14, np.inf, IRIS)
EMPTY_FEATURE = np.where(np.arange(4) == 2, np.nan, IRIS)
FILES = {
    "missing.npy": [(None, r"missing\.npy: there is no such file")],
    "a.parquet": [
        (b"PAR1", r"a\.parquet: not a \.npy, \.npz, \.csv or \.csv\.gz file")
    ],
    "a.csv.gz": [(b"1,2", "not a readable .gz file")],
    "a.npy": [
        (b"nonsense", r"a\.npy: not readable as NumPy's"),
        (b"", r"a\.npy: not readable as NumPy's"),
        ({"X": IRIS}, "not in the format that its name says"),
        (np.array([[1, "a"]] * 30, dtype=object), "not readable"),
        (np.arange(30.0), r"a\.npy: its shape is \(30,\)"),
        (np.zeros((30, 2, 2, 2)), r"its shape is \(30, 2, 2, 2\)"),
        (np.array(1.0), r"its shape is \(\)"),
        (WITH_INF, r"1 entries are infinite, .* row 3, column 2 .*: inf"),
        (EMPTY_FEATURE, "column 2 has no value: leave it out"),
        (IRIS.astype(str), "not real numbers"),
        (IRIS.astype(complex), "not real numbers"),
        (IRIS[:19], "19 rows are too few; at least 20 are needed"),
        (IRIS[:0], "0 rows are too few"),
        (IRIS[:, :1], "1 features are too few; at least 2 are needed"),
        (np.ones((30, 3)), "all its rows are the same"),
    ],
    "a.npz": [
        (b"PK\x03\x04nonsense", r"a\.npz: not readable as NumPy's"),
        ({"rows": IRIS, "y": SPECIES}, r"no array named X or X_train \(there are: row"),
        ({"X": IRIS, "y": SPECIES[:-1]}, r"labels of shape \(149,\) for 150 rows"),
        ({"X": IRIS, "y": np.eye(3)[SPECIES]}, r"labels of shape \(150, 3\)"),
        ({"X": IRIS, "y": np.where(SPECIES == 0, np.nan, SPECIES)}, "NaN or infinite"),
        (
            {"X": IRIS, "y": np.array([f"id {i}" for i in range(150)])},
            r"text with 150 different values, .* \(at most 30\): choose another",
        ),
        ({"X": IRIS, "y": np.zeros(150)}, "all labels are the same"),
        ({"X": IRIS, "y": SPECIES.astype(object)}, "array y is not readable"),
    ],
    "a.csv": [
        (b"\xff\xfe\x00\xd8\x41\x41", r"a\.csv: not a readable .*no text in UTF-16"),
        (bytes(range(256)), r"a\.csv: not a readable \.csv file \(it has bytes"),
        ("1,2\n3,x\n5,6\n" * 20, "line 2, column 1 is not a number: x .*or write NA"),
        (
            "a,b\n1,2\n3,4\n3,x\n",
            "line 4, column b is not a number: x .* --categories .b",
        ),
        (
            "a,b,c\n" + "".join(f"{i % 5},2,\n" for i in range(20)),
            r"there are: a; left out: b \(the same value everywhere\), c \(no value\)",
        ),
        ("1,2\n3,4,5\n" * 20, "line 2 has 3 columns, the first has 2"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", "0 rows are too few"),
        ("9" * 200_000, "not a readable .csv file"),
        ("1,2\n3,inf\n" * 20, "line 2, column 1 is infinite or too large: inf"),
    ],
}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [(name, *case) for name, cases in FILES.items() for case in cases],
    ids=lambda value: value if isinstance(value, str) and len(value) < 99 else "",
)
def test_bad_files(failing_job, tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif isinstance(content, dict):
        with path.open("wb") as file:
            np.savez(file, **content)
    elif content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert re.search(message, failing_job("--data", path))
    assert not (tmp_path / "out").exists()


def test_target_that_is_not_there(failing_job, tmp_path):
    assert "--target names a column" in failing_job("--target", "y")
    (tmp_path / "a.csv").write_text(HEADER + NAMED)
    for target in ("height", "5", "-6"):
        message = failing_job("--data", tmp_path / "a.csv", "--target", target)
        assert re.search(f"no column '?{target}", message)


def test_rows_without_a_target_are_left_out(job, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + NAMED.replace(",b\n", ",none\n"))
    options = "--target", "kind", "--code-sizes", 1, "--cv", 2, "--no-plot"
    status, out, err = job("--data", path, *options)
    assert (status, err) == (0, "")
    assert "50 rows without a target are left out" in out
    data = demo_data.load(path, "kind")
    assert np.array_equal(data.X, IRIS[SPECIES != 1])
    assert data.y.tolist() == ["a"] * 50 + ["c"] * 50
    assert data.lines.tolist() == [*range(2, 52), *range(102, 152)]
    scope = {}
    exec(textwrap.dedent(code_of(out)), scope)
    assert np.array_equal(scope["X"], data.X)
    assert scope["y"].tolist() == data.y.tolist()


def one_class_to_train_on():
    y = np.zeros(150)
    y[train_test_split(range(150), test_size=0.25, random_state=0)[1][0]] = 1
    return y


WIDE = np.random.default_rng(0).random((20, 30))


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"X": IRIS}, "--target y", "--target names a column of a .csv"),
        ({"X": IRIS, "y": one_class_to_train_on()}, "", "samples are all of one class"),
        (
            {"X": IRIS},
            "--code-sizes 2 5",
            "--code-sizes 5: with 4 features, .* at most 4 components",
        ),
        # 15 training samples, folds of 5
        (
            {"X": WIDE},
            "--code-sizes 11",
            "10 training samples in the folds, .* most 10 ",
        ),
        (
            {
                "X": np.where(
                    (np.arange(150)[:, None] > 0) & (np.arange(4) == 1), np.nan, IRIS
                )
            },
            "",
            "column 1 has no value in a training fold of a.npz: leave it out",
        ),
        # 16 training samples
        ({"X": IRIS[::7]}, "--cv 1", "--cv 1: 2 to 8 folds are possible"),
        ({"X": IRIS[::7]}, "--cv 9", "--cv 9: 2 to 8 folds are possible"),
    ],
)
def test_options_that_do_not_suit_the_data(
    failing_job, tmp_path, arrays, options, message
):
    path = save_npz(tmp_path / "a.npz", **arrays)
    assert re.search(message, failing_job("--data", path, *options.split()))


def test_output_that_cannot_be_written(failing_job, tmp_path, monkeypatch):
    path = save_npz(tmp_path / "a.npz", X=IRIS)
    message = failing_job("--data", path, "--output", path)
    assert re.search(r"--output .*a\.npz: there is a file of this name", message)
    for name in ("reconstructions.png", "results.csv"):
        folder = tmp_path / name[:7]
        (folder / name).mkdir(parents=True)
        message = failing_job("--data", path, "--code-sizes", 1, "--output", folder)
        assert f"{name}: Is a directory" in message
    monkeypatch.setattr("os.access", lambda *args: False)
    assert "no permission to write there" in failing_job("--data", path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--code-sizes", "0"], "--code-sizes: not a positive whole number: 0"),
        (["--code-sizes", "two"], "--code-sizes: not a positive whole number: two"),
        (["--cv", "-3"], "--cv"),
        (["--max-iter", "1.5"], "--max-iter: not a positive whole number: 1.5"),
        (["--random-state", "-1"], "--random-state"),
        (["--random-state", str(2**32)], "--random-state: not a number from 0 to"),
        (["--scaler", "robust"], "--scaler: invalid choice: 'robust'"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_bad_options(capsys, args, message):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_in_a_process_of_its_own():
    done = subprocess.run(
        [sys.executable, "-m", "skae", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: python -m skae")
    assert "python -m skae --data measurements.csv --target species" in done.stdout
    assert done.stderr == ""


def test_categories(job, tmp_path):
    """Columns of text are used; a header is told from a sample that has numbers."""
    lines = [
        f"{i % 7},{'abc'[i % 3]},{'NA' if i == 5 else i * i},{i % 2}" for i in range(60)
    ]
    for name, header in (("a", ["size,kind,n,y"]), ("b", [])):
        (tmp_path / f"{name}.csv").write_text("\n".join([*header, *lines]))
        data = demo_data.load(tmp_path / f"{name}.csv", "-1")
        assert data.X.shape == (60, 3)
        assert data.X[:, 1].tolist() == list("abc") * 20
        assert np.argwhere(data.is_missing).tolist() == [[5, 2]]
        levels = data.table_parameters["categories"]
        assert levels[0] is None
        assert sorted(levels[1]) == ["a", "b", "c"]
    arguments = "--target", "y", "--code-sizes", 1, "--cv", 2
    status, out, err = job("--data", tmp_path / "a.csv", *arguments)
    assert (status, err) == (0, "")
    assert "Categories: kind.\nEach column counts once" in out
    assert "accuracy of levels" in out
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 <= float(row["autoencoder_levels"]) <= 1
    # A few values that are no numbers are mistakes.
    (tmp_path / "c.csv").write_text("\n".join([*lines, "1,a,?,0"]))
    status, _, err = job("--data", tmp_path / "c.csv")
    assert status == 2
    assert "line 61, column 2 is not a number: ?" in err


# Tables, and the report


def columns_of(*columns):
    """Return the text of a .csv from columns, each a name and the cells."""
    names, cells = zip(*columns, strict=True)
    return csv_text(zip(*cells, strict=True), ",".join(names) + "\n")


def test_columns_without_a_use_are_left_out(tmp_path):
    text = columns_of(
        ("id", range(7, 157)),
        ("w", IRIS[:, 0]),
        ("const", [3] * 150),
        ("code", [f"x{i}" for i in range(150)]),
        ("empty", [""] * 150),
        ("rare", [5, 6] + [""] * 148),
        ("day", [f"{i % 12 + 1}/5/2024" for i in range(150)]),  # or month
        ("x", IRIS[:, 1]),
    )
    (tmp_path / "a.csv").write_text(text)
    data = demo_data.load(tmp_path / "a.csv")
    assert np.array_equal(data.X, IRIS[:, :2])
    assert data.names == ("w", "x")
    assert data.left_out == (
        "id (row numbers)",
        "const (the same value everywhere)",
        "code (nearly all values differ)",
        "empty (no value)",
        "rare (2 values)",
        "day (dates in no clear format: write them as 2026-12-31)",
    )
    assert data.lines.tolist() == list(range(2, 152))


def test_numbers_that_are_named_are_categories(job, tmp_path):
    path = tmp_path / "a.csv"
    columns = ("v", IRIS[:, 1]), ("w", IRIS[:, 0]), ("region", [1, 2] * 75)
    path.write_text(columns_of(*columns))
    assert demo_data.load(path).categories == ()
    options = "--categories", "region", "--code-sizes", 1, "--cv", 2, "--no-plot"
    status, out, err = job("--data", path, *options)
    assert (status, err) == (0, "")
    assert "Categories: region." in out
    assert "X = pd.read_csv(" in out
    assert 'dtype={"region": "str"}' in out
    text = path.read_text()
    assert demo_data.load(path, dropped=["w"]).left_out == ("w (by --drop)",)
    path.write_text(text.replace("region\n", "region\n5,5,1.5.2020\n", 1))
    status, _, err = job("--data", path)
    assert status == 2
    assert "line 2, column region: 1.5.2020 (write all dates" in err
    status, _, err = job("--data", path, "--categories", "place")
    assert status == 2
    assert "no column 'place' for --categories in: v, w, region" in err


def test_many_levels_share_an_input(tmp_path):
    """A column with more levels than the network gets inputs for is kept."""
    for n_levels, parameters in (
        (100, {"categories"}),
        (101, {"categories", "max_categories"}),
    ):
        levels = [f"c{i % n_levels}" for i in range(300)]
        (tmp_path / "a.csv").write_text(
            columns_of(("a", range(0, 600, 2)), ("b", levels))
        )
        data = demo_data.load(tmp_path / "a.csv")
        assert set(data.table_parameters) == parameters
        assert len(data.table_parameters["categories"][1]) == n_levels


def german(number):
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


DAYS = np.arange(150) * 37 % 400
DATES = [str(np.datetime64("2024-02-28") + day) for day in DAYS]
MONEY = (IRIS[:, 0] * 1000).round(2)
WIDTH = IRIS[:, 1]
KIND = [f"{kind}, {kind}" for kind in KINDS]
# Files, and the values of their columns; flag and kind are categories.
WAYS_TO_WRITE = {
    "plain.csv": columns_of(
        ("money", MONEY),
        ("width", WIDTH),
        ("kind", [f'"{kind}"' for kind in KIND]),
    ).encode(),
    "zipped.csv.gz": gzip.compress(
        columns_of(("money", MONEY), ("width", WIDTH), ("kind", KINDS)).encode()
    ),
    "signs.csv": columns_of(
        ("money", [f'"${x:,.2f}"' for x in MONEY]),
        ("width", [f"{x} %" for x in WIDTH]),
        ("day", DATES),
    ).encode(),
    "german.csv": csv_text(
        zip(map(german, WIDTH), [f"{german(x)} \u20ac" for x in MONEY], strict=True),
        "width;money \u20ac\n",
        separator=";",
    ).encode("cp1252"),
    "dates.csv": columns_of(
        ("points", [f"{int(d[8:])}.{int(d[5:7])}.{d[:4]}" for d in DATES]),
        ("month first", [f"{d[5:7]}/{d[8:]}/{d[:4]}" for d in DATES]),
        ("hours", ["", *(f"{d[8:]}-{d[5:7]}-{d[:4]} 13:30" for d in DATES[1:])]),
        ("postcode", [f"{i % 5:05}" for i in range(150)]),
    ).encode(),
    "tabs.csv": csv_text(
        zip(MONEY, WIDTH, KINDS, strict=True),
        "money\twidth\tst\u00fcck\n",
        separator="\t",
    ).encode("utf-16"),
    "gaps.csv": columns_of(
        ("w", [" na" if i == 3 else f" {x}" for i, x in enumerate(WIDTH)]),
        (" m ", [" " if i == 5 else x for i, x in enumerate(MONEY)]),
        ("flag", ["" if i == 7 else i % 3 == 0 for i in range(150)]),
        (" id ", range(150)),
    ).encode(),
    "twice.csv": columns_of(("a", MONEY), ("", WIDTH), ("a", KINDS)).encode(),
    "nameless.csv": columns_of(("5.1", MONEY), ("3", WIDTH), ("a", KINDS)).encode(),
}


@pytest.mark.parametrize("name", WAYS_TO_WRITE)
def test_python_to_continue_reads_the_same_table(job, tmp_path, name):
    """The code in the report gives pandas the same columns, and a model of them."""
    pytest.importorskip("pandas")
    path = tmp_path / name
    path.write_bytes(WAYS_TO_WRITE[name])
    data = demo_data.load(path)
    options = ["--code-sizes", 1, "--cv", 2, "--no-plot"]
    status, out, err = job("--data", path, *options)
    assert (status, err) == (0, "")
    text = (tmp_path / "out" / "report.txt").read_text(encoding="utf-8")
    assert text in out
    scope = {}
    exec(textwrap.dedent(code_of(text)), scope)
    frame = scope["X"]
    assert [str(column).strip() for column in frame.columns] == list(data.names)
    for j, column in enumerate(frame.columns):
        found = frame[column].to_numpy(dtype=object)
        is_missing = frame[column].isna().to_numpy()
        assert np.array_equal(is_missing, data.is_missing[:, j])
        expected, found = data.X[~is_missing, j], found[~is_missing]
        if data.names[j] in data.dates:  # seconds since the first, for days
            expected = (expected - expected.min()) * 86400
        if data.names[j] in data.categories:
            assert found.astype(str).tolist() == expected.tolist()
        else:
            assert np.allclose(found.astype(float), expected.astype(float))
    if name == "dates.csv":
        assert data.categories == ("postcode",)
        days = [np.datetime64(date).astype(int) for date in DATES]
        assert data.X[:, :2].tolist() == [[day, day] for day in days]
        assert data.X[1, 2] == days[1] + 13.5 / 24
    assert scope["codes"].shape == (len(data.X), 1)


def test_report(job, figures, tmp_path, monkeypatch):
    """Numbers in the words are those of the fits, and a row that is odd is found."""
    monkeypatch.setattr(demo, "OF_FILES", {})
    rng = np.random.default_rng(0)
    a = rng.normal(size=150).round(4)
    table = {
        "height": a + 10,
        "weight": (2 * a + 0.1 * rng.normal(size=150)).round(4) * 1e4,
        "noise": rng.normal(size=150).round(4),
        "kind": np.where(a > 0, "up", "down").astype(object),
        "city": np.resize(["Rome", "Oslo", "Bonn"], 150).astype(object),
    }
    table["weight"][40] = -50_000
    cells = dict(table, score=(a + rng.normal(size=150)).round(3))
    cells["city"] = ["" if i % 10 == 0 else c for i, c in enumerate(table["city"])]
    (tmp_path / "a.csv").write_text(columns_of(*cells.items()))
    options = "--target", "score", "--code-sizes", 1, 2, "--cv", 2
    status, out, _ = job("--data", tmp_path / "a.csv", *options, max_iter=20)
    assert status == 0
    text = (tmp_path / "out" / "report.txt").read_text()
    assert text in out
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) < 80
    words = " ".join(text.split())
    assert (
        "a.csv has 150 rows and 5 columns in use: 3 of numbers, 2 of categories."
        in words
    )
    assert "Gaps: 2 % of the values, in city 10 %." in words
    assert "skae.AutoencoderImputer(random_state=0).fit_transform(X)" in words
    r2 = [row["autoencoder_r2"] for row in read_table(tmp_path / "out")]
    assert f"(by code size: 1: {100 * r2[0]:.0f} %, 2: {100 * r2[1]:.0f} %)" in words
    assert f"2 numbers per row keep {100 * r2[1]:.0f} %" in words
    assert re.search(r"Recommended: (PCA|the autoencoder)", words)
    of_target = read_table(tmp_path / "out")[1]
    expected = f"code: {of_target['autoencoder_target_r2']:.3f}; from PCA's: "
    assert f"Target: R2 of the target from the autoencoder's {expected}" in words
    (row,) = re.findall(r"row 40 \(line 42\): .*", text)
    assert "weight=-50000 (" in row
    assert text.index("row 40 ") < text.index("row ", text.index("row 40 ") + 1)
    # And in the files, which have all rows and columns.
    with (tmp_path / "out" / "rows.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["line"] for row in rows] == [str(i) for i in range(2, 152)]
    assert max(rows, key=lambda row: float(row["score"])) is rows[40]
    assert (rows[40]["unusual"], rows[40]["column to blame"]) == ("1", "weight")
    assert f"{sum(row['unusual'] == '1' for row in rows)} of 150 beyond" in words
    codes = np.array([[float(row[f"code {i}"]) for i in (0, 1)] for row in rows])
    assert (
        abs(np.corrcoef(np.delete(codes, 40, 0).T, np.delete(a, 40))[2, :2]).max() > 0.9
    )
    with (tmp_path / "out" / "columns.csv").open(newline="") as file:
        of_columns = {row["column"]: row for row in csv.DictReader(file)}
    assert of_columns["city"]["kind"] == "categories"
    assert of_columns["city"]["missing"] == "0.1"
    # The columns in the words and in the picture.
    *_, bars = figures[0].axes
    names = [label.get_text() for label in bars.get_yticklabels()]
    widths = [bar.get_width() for bar in bars.patches]
    assert sorted(names) == sorted(table)
    kept = [max(float(of_columns[name]["kept"]), 0) for name in names]
    assert widths == pytest.approx(kept, rel=1e-4)
    assert widths == sorted(widths, reverse=True)
    best = ", ".join(f"{n} {w:.2f}" for n, w in zip(names[:3], widths, strict=False))
    assert f"by the share that is kept in 2 numbers: best {best}; worst" in words
    assert out.count("R2 of target from code") == 1
    assert [ax.get_title() for ax in figures[0].axes][1].startswith("R² of the target")


def test_shares_of_columns():
    """R² of numbers, and of the probabilities of levels."""
    X = IRIS.copy()
    X[::7, 2] = np.nan
    model = AutoencoderTransformer(2, random_state=0, max_iter=5).fit(X)
    restored = model.inverse_transform(model.transform(X))
    shares = report.column_shares(make_pipeline(model), X, ())
    for j in range(4):
        there = ~np.isnan(X[:, j])
        assert shares[j] == pytest.approx(r2_score(X[there, j], restored[there, j]))
    table = np.column_stack([X, KINDS]).astype(object)
    table[:, :4] = X
    table[5, 4] = None
    model = AutoencoderTransformer(2, random_state=0, max_iter=20).fit(table)
    shares = report.column_shares(make_pipeline(model), table, [4])
    restored = model.inverse_transform(model.transform(table)).astype(object)
    for j in (0, 3):
        expected = r2_score(X[:, j], restored[:, j].astype(float))
        assert shares[j] == pytest.approx(expected)
    squares = [
        ((probabilities - one_hot) ** 2).sum()
        for probabilities, one_hot in zip(
            model._decoded_inputs(model.transform(table))[:, 4:],
            np.eye(3)[SPECIES],
            strict=True,
        )
    ]
    there = np.arange(150) != 5
    spread = np.eye(3)[SPECIES[there]].var(axis=0).sum()
    assert shares[4] == pytest.approx(1 - np.mean(np.array(squares)[there]) / spread)
    assert 0.1 < shares[4] < 1


def test_code_size_of_the_report():
    """The smallest that keeps nine tenths, or the best."""
    assert report.chosen_code_size([0.5, 0.91, 0.95]) == 1
    assert report.chosen_code_size([0.5, 0.7, 0.6]) == 1


def test_rows_beyond_a_limit_are_scored_only(job, tmp_path):
    np.save(tmp_path / "a.npy", IRIS)
    options = "--max-rows", 60, "--code-sizes", 1, "--cv", 2, "--no-plot"
    status, out, _ = job("--data", tmp_path / "a.npy", *options)
    assert status == 0
    assert "a.npy: 60 training samples, 38 held out" in out
    assert "52 of the 150 samples are not used to fit" in " ".join(out.split())
    assert re.search(r"Unusual rows: \d+ of 150 beyond", out)
    scope = {}
    exec(textwrap.dedent(code_of(out)), scope)
    assert scope["codes"].shape == (150, 1)


def test_terminals_that_know_ascii_only(monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    demo.show("gr\u00f6\u00dfe")
    assert printed.getvalue().splitlines() == [rb"gr\xf6\xdfe"]


def test_scaler_of_a_table(failing_job, tmp_path):
    (tmp_path / "a.csv").write_text(csv_text(IRIS))
    message = failing_job("--data", tmp_path / "a.csv", "--scaler", "minmax")
    assert "--scaler minmax: only for arrays" in message


def test_extreme_rows_are_warned_of():
    table = {
        "code_size": [2],
        **{"pca_cv_r2": [0.1], "pca_r2": [0.1]},
        **{"autoencoder_cv_r2": [0.2], "autoencoder_r2": [0.9]},
    }
    assert "(R2 0.200 in the cross-validation" in demo.warning_of_extremes(table, 0)
    table["autoencoder_r2"] = [0.3]
    assert demo.warning_of_extremes(table, 0) == ""
