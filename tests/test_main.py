"""Tests of ``python -m skae``."""

import _thread
import csv
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import AutoencoderTransformer
from skae.__main__ import main
from skae._cli import demo, demo_data

IRIS, SPECIES = load_iris(return_X_y=True)
N_FEATURES = IRIS.shape[1]


@pytest.fixture(autouse=True)
def small_autoencoder(monkeypatch):
    """Keep the fits short."""
    small = {"hidden_layer_sizes": (4,), "learning_rate": "cosine"}
    monkeypatch.setattr(demo, "AUTOENCODER", small)


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


def save_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def read_table(folder):
    with (folder / "results.csv").open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def assert_matches(pattern, text):
    assert re.search(pattern, text), text


# The whole job


def test_job_with_labels(job, tmp_path):
    data = save_npz(tmp_path / "iris.npz", X=IRIS, y=SPECIES)
    status, out, err = job("--data", data, "--code-sizes", 3, 1, 3)
    assert status == 0
    assert err == ""
    assert "iris.npz: 112 rows to train on, 38 held out; 4 features" in out

    # A line for each candidate, in the search and in the fits that follow.
    for step in ("1/4", "2/4", "3/4", "4/4"):
        assert out.count(f"  {step}  ") == 2
    for name in ("PCA", "autoencoder"):
        for code_size in (1, 3):
            assert out.count(f"/4  {name}, code size {code_size} ") == 2
    assert re.search(r"Accuracy from all features: [01]\.\d{3}\.\n", out)

    table = read_table(tmp_path / "out")
    assert [row["code_size"] for row in table] == [1, 3]
    assert list(table[0]) == [
        "code_size",
        "pca_r2",
        "autoencoder_r2",
        "pca_accuracy",
        "autoencoder_accuracy",
        "pca_fit_seconds",
        "autoencoder_fit_seconds",
        "pca_cv_r2",
        "autoencoder_cv_r2",
        "autoencoder_n_iter",
    ]
    assert all(row["autoencoder_n_iter"] == 3 for row in table)
    assert all(row["pca_fit_seconds"] > 0 for row in table)

    # PCA's part of the table, computed directly.
    X_train, X_test, y_train, y_test = train_test_split(
        IRIS, SPECIES, test_size=0.25, random_state=0, stratify=SPECIES
    )
    for row in table:
        reduce = make_pipeline(MinMaxScaler(), PCA(int(row["code_size"])))
        codes = reduce.fit_transform(X_train)
        r2 = r2_score(
            X_test,
            reduce.inverse_transform(reduce.transform(X_test)),
            multioutput="variance_weighted",
        )
        assert row["pca_r2"] == pytest.approx(r2, rel=1e-9)
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        accuracy = classifier.fit(codes, y_train).score(
            reduce.transform(X_test), y_test
        )
        assert row["pca_accuracy"] == pytest.approx(accuracy)
        assert f"{row['code_size']:4.0f}  " in out
        assert f"{r2:.3f}" in out

    picture = tmp_path / "out" / "reconstructions.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
    for path in (picture, tmp_path / "out" / "results.csv"):
        assert f"Wrote {path}" in out


def test_grid_search_picks_the_best_of_the_folds(job, tmp_path):
    data = save_npz(tmp_path / "iris.npz", X=IRIS)
    _, out, _ = job("--data", data, "--code-sizes", 1, 3, "--no-plot")
    scores = {
        (name, int(row["code_size"])): row[f"{name.lower()}_cv_r2"]
        for row in read_table(tmp_path / "out")
        for name in ("PCA", "autoencoder")
    }
    name, code_size = max(scores, key=scores.get)
    assert f"picks: {name}, code size {code_size} " in out


def test_the_folds_are_judged_in_words(job, tmp_path):
    data = save_npz(tmp_path / "iris.npz", X=IRIS)
    _, out, _ = job("--data", data, "--code-sizes", 1, 3, "--cv", 2, "--no-plot")
    out.encode("ascii")  # what any terminal can print
    said = " ".join(out.partition("In the folds: ")[2].split())
    # It begins at PCA, and three epochs change little.
    assert said.startswith(
        "The autoencoder reconstructs as much of the variance as PCA at every code size"
    )
    assert "(+-: standard deviation over the 2 splits.)" in said


def test_without_labels_there_is_no_accuracy(job, tmp_path):
    np.save(tmp_path / "rows.npy", IRIS)
    status, out, _ = job("--data", tmp_path / "rows.npy", "--code-sizes", 2)
    assert status == 0
    assert "ccuracy" not in out
    assert not any("accuracy" in name for name in read_table(tmp_path / "out")[0])


def test_digits_are_the_default(job, tmp_path):
    status, out, _ = job("--code-sizes", 2, "--cv", 2, "--no-plot", max_iter=1)
    assert status == 0
    assert "digits: 1347 rows to train on, 450 held out; 64 features" in out
    assert not (tmp_path / "out" / "reconstructions.png").exists()


def test_same_random_state_gives_the_same_table(job, tmp_path):
    data = save_npz(tmp_path / "iris.npz", X=IRIS, y=SPECIES)
    tables = []
    for seed in (0, 0, 1):
        job("--data", data, "--code-sizes", 2, "--random-state", seed, "--no-plot")
        (row,) = read_table(tmp_path / "out")
        tables.append({key: row[key] for key in row if "seconds" not in key})
    assert tables[0] == tables[1]
    assert tables[0]["pca_r2"] != tables[2]["pca_r2"]  # the split is another one


def test_scaler(job, tmp_path):
    data = save_npz(tmp_path / "iris.npz", X=IRIS)
    r2 = {}
    for scaler in ("minmax", "standard"):
        job("--data", data, "--code-sizes", 2, "--scaler", scaler, "--no-plot")
        r2[scaler] = read_table(tmp_path / "out")[0]["pca_r2"]
    assert r2["minmax"] != r2["standard"]


def test_without_matplotlib_the_table_is_still_written(job, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    data = save_npz(tmp_path / "iris.npz", X=IRIS)
    status, out, _ = job("--data", data, "--code-sizes", 2)
    assert status == 0
    assert 'pip install "skae[plot]"' in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.csv"]


def test_linear_network_of_full_rank_is_exact(job, tmp_path, monkeypatch):
    linear = {"hidden_layer_sizes": (), "solver": "lbfgs", "tol": 1e-8}
    monkeypatch.setattr(demo, "AUTOENCODER", linear)
    data = save_npz(tmp_path / "iris.npz", X=IRIS)
    job("--data", data, "--code-sizes", N_FEATURES, "--no-plot", max_iter=1000)
    (row,) = read_table(tmp_path / "out")
    assert row["pca_r2"] == pytest.approx(1.0)
    assert row["autoencoder_r2"] == pytest.approx(1.0, abs=1e-6)


def test_default_code_sizes_are_those_that_reduce(job, tmp_path):
    data = save_npz(tmp_path / "iris.npz", X=IRIS)
    assert job("--data", data, "--no-plot")[0] == 0
    assert [row["code_size"] for row in read_table(tmp_path / "out")] == [2]
    data = save_npz(tmp_path / "narrow.npz", X=IRIS[:, :2])
    assert job("--data", data, "--no-plot")[0] == 0
    assert [row["code_size"] for row in read_table(tmp_path / "out")] == [1]


def test_held_out_rows_have_no_part_in_fits(job, tmp_path, monkeypatch):
    fitted_on = []

    class Recorder(PCA):
        def fit_transform(self, X, y=None):
            fitted_on.append(X)
            return super().fit_transform(X)

        def fit(self, X, y=None):
            fitted_on.append(X)
            return super().fit(X)

    monkeypatch.setattr(demo, "PCA", Recorder)
    X = np.random.default_rng(0).normal(size=(40, 3))
    data = save_npz(tmp_path / "rows.npz", X=X)
    job("--data", data, "--code-sizes", 1, "--scaler", "standard", "--no-plot")
    # Three folds of 20, then all 30 training rows; never 40.
    assert [len(rows) for rows in fitted_on] == [20, 20, 20, 30]


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
    monkeypatch.setitem(demo.AUTOENCODER, "n_iter_no_change", np.inf)
    status, out, err = job(*args, max_iter=1_000_000)
    assert status == 130
    assert err == "python -m skae: interrupted\n"
    assert "autoencoder" not in out  # it did not get to the next fold


# Reading


@pytest.mark.parametrize("names", [("X", "y"), ("X_train", "y_train"), ("x", "y")])
def test_npz_names(tmp_path, names):
    path = save_npz(
        tmp_path / "a.npz", **dict(zip(names, (IRIS, SPECIES), strict=True))
    )
    data = demo_data.load(path)
    assert np.array_equal(data.X, IRIS)
    assert np.array_equal(data.y, SPECIES)
    assert data.name == "a.npz"
    assert data.image_shape is None


def test_npz_labels_may_be_a_column(tmp_path):
    path = save_npz(tmp_path / "a.npz", X=IRIS, y=SPECIES[:, np.newaxis])
    assert np.array_equal(demo_data.load(path).y, SPECIES)


def test_npz_prefers_x_with_its_own_labels(tmp_path):
    path = save_npz(tmp_path / "a.npz", X=IRIS, X_train=IRIS[:50], y_train=SPECIES[:50])
    data = demo_data.load(path)
    assert len(data.X) == 150
    assert data.y is None


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
        ((30, 49), None),  # too small to be recognised as an image
        ((30, 5, 4), (5, 4)),
    ],
)
def test_images_are_recognised(tmp_path, shape, image_shape):
    X = np.random.default_rng(0).random(shape)
    np.save(tmp_path / "a.npy", X)
    data = demo_data.load(tmp_path / "a.npy")
    assert data.image_shape == image_shape
    assert np.array_equal(data.X, X.reshape(30, -1))


def write_csv(path, rows, header=None, encoding="utf-8"):
    lines = [] if header is None else [header]
    lines += [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


NAMED = [[*row, "abc"[label]] for row, label in zip(IRIS, SPECIES, strict=True)]


@pytest.mark.parametrize("target", ["kind", "4", "-1"])
def test_csv_with_header_and_labels(tmp_path, target):
    path = write_csv(tmp_path / "a.csv", NAMED, "w,x,y,z,kind")
    data = demo_data.load(path, target)
    assert np.array_equal(data.X, IRIS)
    assert data.y.tolist() == ["abc"[label] for label in SPECIES]


def test_csv_label_column_in_the_middle_without_header(tmp_path):
    rows = [[a, b, label, c] for (a, b, c, _), label in zip(IRIS, SPECIES, strict=True)]
    data = demo_data.load(write_csv(tmp_path / "a.csv", rows), "2")
    assert np.array_equal(data.X, IRIS[:, :3])
    assert np.array_equal(data.y, SPECIES)


def test_csv_text_labels_are_no_header(tmp_path):
    data = demo_data.load(write_csv(tmp_path / "a.csv", NAMED), "-1")
    assert np.array_equal(data.X, IRIS)


@pytest.mark.parametrize("header", [None, "w,x,y,z", '"w, m",x,y,z'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_without_target(tmp_path, header, encoding):
    path = write_csv(tmp_path / "a.CSV", IRIS, header, encoding)
    data = demo_data.load(path)
    assert np.array_equal(data.X, IRIS)
    assert data.y is None


def test_csv_spaces_belong_to_no_name(tmp_path):
    path = write_csv(tmp_path / "a.csv", NAMED, "w, x, y, z, kind ")
    assert len(np.unique(demo_data.load(path, "kind").y)) == 3


def test_csv_blank_lines_and_spaces(tmp_path):
    path = tmp_path / "a.csv"
    lines = [" , ".join(map(str, row)) for row in IRIS]
    path.write_text("\n\n".join(lines) + "\n\n ,\n")
    assert np.array_equal(demo_data.load(path).X, IRIS)


# Errors: one line, status 2


def with_nan(X):
    X = X.copy()
    X[3, 2] = np.nan
    return X


BAD_ARRAYS = {
    "1d": (np.arange(30.0), r"a\.npy: its shape is \(30,\)"),
    "4d": (np.zeros((30, 2, 2, 2)), r"its shape is \(30, 2, 2, 2\)"),
    "0d": (np.array(1.0), r"its shape is \(\)"),
    "nan": (with_nan(IRIS), r"1 entries are not finite, .* row 3, column 2 .*: nan"),
    "text": (IRIS.astype(str), "not real numbers"),
    "complex": (IRIS.astype(complex), "not real numbers"),
    "few rows": (IRIS[:19], "19 rows of 4 features are too few; at least 20 rows"),
    "no rows": (IRIS[:0], "0 rows of 4 features are too few"),
    "one feature": (IRIS[:, :1], "150 rows of 1 features are too few"),
    "constant": (np.ones((30, 3)), "all its rows are the same"),
}


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


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(failing_job, tmp_path, case):
    X, message = BAD_ARRAYS[case]
    np.save(tmp_path / "a.npy", X)
    assert_matches(message, failing_job("--data", tmp_path / "a.npy"))
    assert not (tmp_path / "out").exists()


BAD_CSV = {
    "text": ("1,2\n3,x\n" * 20, "line 2, column 1 is not a number: x"),
    "named": ("a,b\n1,2\n3,4\n3,x\n", "line 4, column b is not a number: x"),
    "gap": ("1,2\n3,\n" * 20, "line 2, column 1 is empty"),
    "first gap": (",2\n" + "3,4\n" * 20, "line 1, column 0 is empty"),
    "ragged": ("1,2\n3,4,5\n" * 20, "line 2 has 3 columns, the first has 2"),
    "empty": ("", "the file is empty"),
    "blank": ("\n\n", "the file is empty"),
    "header only": ("a,b\n", "0 rows of 2 features are too few"),
    "endless cell": ("9" * 200_000, "not a readable .csv file"),
    "nan": ("1,2\n3,nan\n" * 20, "20 entries are not finite"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv(failing_job, tmp_path, case):
    text, message = BAD_CSV[case]
    (tmp_path / "a.csv").write_text(text)
    assert_matches(message, failing_job("--data", tmp_path / "a.csv"))


def test_csv_that_is_not_text(failing_job, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x80" * 50)
    message = failing_job("--data", tmp_path / "a.csv")
    assert_matches(r"a\.csv: not a readable \.csv file", message)


@pytest.mark.parametrize("target", ["height", "5", "-6"])
def test_target_that_is_not_there(failing_job, tmp_path, target):
    path = write_csv(tmp_path / "a.csv", NAMED, "w,x,y,z,kind")
    message = failing_job("--data", path, "--target", target)
    assert_matches(f"no column '?{target}", message)


def test_target_without_csv(failing_job, tmp_path):
    path = save_npz(tmp_path / "a.npz", X=IRIS)
    assert_matches("--target", failing_job("--data", path, "--target", "y"))
    assert_matches("--target", failing_job("--target", "y"))


BAD_LABELS = {
    "length": (SPECIES[:-1], r"labels of shape \(149,\) for 150 rows"),
    "shape": (np.eye(3)[SPECIES], r"labels of shape \(150, 3\)"),
    "continuous": (IRIS[:, 0], "not classes"),
    "nan": (np.where(SPECIES == 0, np.nan, SPECIES), "not classes"),
    "one class": (np.zeros(150), "all labels are the same"),
    "objects": (SPECIES.astype(object), "array y is not readable"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels(failing_job, tmp_path, case):
    y, message = BAD_LABELS[case]
    path = save_npz(tmp_path / "a.npz", X=IRIS, y=y)
    assert_matches(message, failing_job("--data", path))


def test_one_class_to_train_on(failing_job, tmp_path):
    y = np.zeros(len(IRIS))
    held_out = train_test_split(range(150), test_size=0.25, random_state=0)[1]
    y[held_out[0]] = 1
    path = save_npz(tmp_path / "a.npz", X=IRIS, y=y)
    assert_matches("training rows are all of one class", failing_job("--data", path))


def test_rare_classes_are_split_without_stratification(job, tmp_path):
    y = SPECIES.copy()
    y[0] = 7
    path = save_npz(tmp_path / "a.npz", X=IRIS, y=y)
    assert job("--data", path, "--code-sizes", 2, "--no-plot")[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.npy", None, r"missing\.npy: there is no such file"),
        ("a.parquet", b"PAR1", r"a\.parquet: not a \.npy, \.npz or \.csv file"),
        ("a.npy", b"nonsense", r"a\.npy: not readable as NumPy's"),
        ("a.npy", b"", r"a\.npy: not readable as NumPy's"),
        ("a.npz", b"PK\x03\x04nonsense", r"a\.npz: not readable as NumPy's"),
    ],
)
def test_bad_files(failing_job, tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert_matches(message, failing_job("--data", path))


def test_pickled_objects_are_not_loaded(failing_job, tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1, "a"]] * 30, dtype=object))
    message = failing_job("--data", tmp_path / "a.npy")
    assert_matches("not readable", message)


def test_content_of_another_kind(failing_job, tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, X=IRIS)
    message = failing_job("--data", tmp_path / "a.npy")
    assert_matches(r"not in the format that its name says", message)


def test_npz_without_rows(failing_job, tmp_path):
    path = save_npz(tmp_path / "a.npz", rows=IRIS, y=SPECIES)
    message = failing_job("--data", path)
    assert_matches(r"no array named X or X_train \(there are: rows, y\)", message)


def test_code_size_larger_than_pca_allows(failing_job, tmp_path):
    path = save_npz(tmp_path / "a.npz", X=IRIS)
    message = failing_job("--data", path, "--code-sizes", 2, 5)
    assert_matches("--code-sizes 5: with 4 features, .* at most 4 components", message)

    wide = save_npz(tmp_path / "b.npz", X=np.random.default_rng(0).random((20, 30)))
    message = failing_job("--data", wide, "--code-sizes", 11)  # 15 rows, folds of 5
    assert_matches("10 rows to fit on in the folds, .* at most 10 components", message)


@pytest.mark.parametrize("cv", [1, 9])
def test_impossible_number_of_folds(failing_job, tmp_path, cv):
    path = save_npz(tmp_path / "a.npz", X=IRIS[::7])  # 16 rows to train on
    message = failing_job("--data", path, "--cv", cv)
    assert_matches(f"--cv {cv}: 2 to 8 folds are possible", message)


def test_output_that_is_a_file(failing_job, tmp_path):
    path = save_npz(tmp_path / "a.npz", X=IRIS)
    message = failing_job("--data", path, "--output", path)
    assert_matches(r"--output .*a\.npz: File exists", message)


def test_output_without_permission(failing_job, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *args: False)
    path = save_npz(tmp_path / "a.npz", X=IRIS)
    assert_matches("no permission", failing_job("--data", path))


@pytest.mark.parametrize("name", ["results.csv", "reconstructions.png"])
def test_files_that_cannot_be_written(failing_job, tmp_path, name):
    (tmp_path / "out" / name).mkdir(parents=True)
    path = save_npz(tmp_path / "a.npz", X=IRIS)
    message = failing_job("--data", path, "--code-sizes", 1)
    assert_matches(f"{name}: Is a directory", message)


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


# The picture. A TruncatedSVD takes the autoencoder's part: whatever is no PCA does.

IMAGES, DIGITS = load_digits(return_X_y=True)
SPLIT = demo.Split(IMAGES[:60], IMAGES[60:100], DIGITS[:60], DIGITS[60:100])


def fitted_results(code_sizes, *, labels=True):
    return [
        demo.Result(
            pipeline=Pipeline([("reduce", reducer(code_size))]).fit(SPLIT.X_train),
            cv_r2=0.5,
            r2=0.1 * code_size - (reducer is PCA),
            accuracy=0.2 * code_size - 0.1 * (reducer is PCA) if labels else None,
            fit_seconds=1.0,
        )
        for reducer in (PCA, TruncatedSVD)
        for code_size in code_sizes
    ]


def curves(ax):
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_curves_of_both_measures():
    results = fitted_results([1, 2, 4])
    shown = demo.choose_shown(results, SPLIT, (8, 8))
    figure = demo.draw(results, shown, 0.93)
    r2, accuracy = figure.axes[:2]
    assert curves(r2) == {
        "PCA": [[n, 0.1 * n - 1] for n in (1, 2, 4)],
        "autoencoder": [[n, 0.1 * n] for n in (1, 2, 4)],
    }
    drawn = curves(accuracy)
    assert [y for _, y in drawn.pop("all features")] == [0.93, 0.93]
    assert drawn == {
        "PCA": [[n, 0.2 * n - 0.1] for n in (1, 2, 4)],
        "autoencoder": [[n, 0.2 * n] for n in (1, 2, 4)],
    }
    for ax in (r2, accuracy):
        low, high = ax.get_ylim()
        assert all(low < y < high for line in curves(ax).values() for _, y in line)
        assert ax.get_xticks().tolist() == [1, 2, 4]
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels == ["PCA", "autoencoder", "all features"]


def test_one_pair_of_axes_without_labels():
    results = fitted_results([1, 2], labels=False)
    shown = demo.Shown(SPLIT.X_test, results[::2], None)
    figure = demo.draw(results, shown, None)
    assert len(figure.axes) == 2  # the curves and the errors
    assert list(curves(figure.axes[0])) == ["PCA", "autoencoder"]
    assert figure.axes[0].get_legend() is not None


def test_images_are_originals_over_reconstructions():
    results = fitted_results([1, 2, 4])
    shown = demo.choose_shown(results, SPLIT, (8, 8))
    axes = np.reshape(demo.draw(results, shown, 0.93).axes[2:], (3, len(shown.X)))
    rows = [shown.X]
    rows += [demo.reconstruct(result, shown.X) for result in shown.results]
    for ax_row, images in zip(axes, rows, strict=True):
        for ax, image in zip(ax_row, images, strict=True):
            (drawn,) = ax.images
            assert np.array_equal(drawn.get_array(), image.reshape(8, 8))
            # One scale of grey: a faint reconstruction looks faint.
            assert drawn.get_clim() == (shown.X.min(), shown.X.max())
    assert [ax_row[0].get_ylabel() for ax_row in axes] == [
        "original",
        "PCA\nR² -0.80",
        "autoencoder\nR² 0.20",
    ]


def test_errors_of_rows_that_are_no_images():
    results = fitted_results([2], labels=False)
    shown = demo.choose_shown(results, SPLIT, None)
    ax = demo.draw(results, shown, None).axes[1]
    errors = [
        np.sqrt(((SPLIT.X_test - demo.reconstruct(result, SPLIT.X_test)) ** 2).sum(1))
        for result in results
    ]
    (points,) = ax.collections
    assert np.allclose(points.get_offsets(), np.transpose(errors))
    assert f"{np.mean(errors[1] < errors[0]):.0%} of the rows" in ax.get_title()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("PCA", "autoencoder")


def test_choice_of_what_is_shown():
    results = fitted_results([1, 2, 4, 5])
    shown = demo.choose_shown(results, SPLIT, (8, 8))
    assert [(r.name, r.code_size) for r in shown.results] == [
        ("PCA", 2),
        ("autoencoder", 2),
    ]
    # The first held-out row of each digit.
    firsts = [SPLIT.y_test.tolist().index(digit) for digit in range(10)]
    assert np.array_equal(shown.X, SPLIT.X_test[firsts])
    unlabelled = demo.choose_shown(results, SPLIT._replace(y_test=None), (8, 8))
    assert np.array_equal(unlabelled.X, SPLIT.X_test[:10])
    assert np.array_equal(demo.choose_shown(results, SPLIT, None).X, SPLIT.X_test)


def test_many_code_sizes_do_not_crowd_the_axis():
    results = fitted_results(range(1, 16))
    shown = demo.choose_shown(results, SPLIT, None)
    ticks = demo.draw(results, shown, 0.93).axes[0].get_xticks()
    assert len(ticks) <= demo.MAX_TICKS


# The program


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
