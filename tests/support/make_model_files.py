"""The files in tests/data, one for each class and version of the format.

    python -m tests.support.make_model_files

writes those of the last version that has something new of a class: 2 of autoencoders,
fitted to data with missing entries, 3 of an imputer and of an outlier detector, and 4
of an autoencoder, an imputer and an outlier detector of a table with categories.
Older ones stay as they are.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import skae.io
from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)

FOLDER = Path(__file__).parents[1] / "data"
X = np.random.default_rng(0).integers(-4, 5, (50, 4)).astype(np.float64)
INCOMPLETE = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
MORE = np.tile(INCOMPLETE, (4, 1)) + np.repeat(np.arange(4), 50)[:, np.newaxis]
MORE[:, 3] = np.nan


def models():
    """Pairs of a name, and an autoencoder whose codes of X are the same everywhere.

    Those of `INCOMPLETE` are but for rounding. The weights are multiples of 1/8, so
    that no product or sum is rounded.
    """
    autoencoder = AutoencoderTransformer(
        2,
        hidden_layer_sizes=(3,),
        max_iter=5,
        n_iter_no_change=np.inf,
        learning_rate="constant",
        random_state=np.random.RandomState(0),
    )
    autoencoder.fit(pd.DataFrame(INCOMPLETE, columns=["a", "b", "ç", "d"]))
    variational = VariationalAutoencoderTransformer(
        2, hidden_layer_sizes=(3,), max_iter=5, learning_rate="constant", random_state=0
    ).fit(INCOMPLETE.astype(np.float32))
    for model in (autoencoder, variational):
        model.mean_ = model._offset = np.round(model.mean_)
        model.scale_ = 2.0
        model._params = np.round(8 * model._params) / 8
        yield f"{type(model).__name__}_2", model


def imputer():
    """An imputer with a network, indicators, and a feature that it leaves out."""
    network = AutoencoderTransformer(2, hidden_layer_sizes=(2,), max_iter=2)
    fitted = AutoencoderImputer(
        network, add_indicator=True, random_state=np.random.RandomState(0)
    ).fit(pd.DataFrame(MORE, columns=["a", "b", "ç", "d"]))
    fitted.weight_ = np.array([0.0, 0.5, 1.0])
    return fitted


def detector():
    """A detector with three networks, of data with missing entries."""
    network = AutoencoderTransformer(2, hidden_layer_sizes=(), max_iter=2)
    return AutoencoderOutlierDetector(network, random_state=0).fit(
        pd.DataFrame(INCOMPLETE, columns=["a", "b", "ç", "d"])
    )


def table():
    """A table with categories, gaps, and dtypes that every version of pandas has."""
    cities = pd.Series([*["Rome", None, "Köln"] * 16, "Rome", "Ur"], dtype=object)
    sizes = pd.CategoricalDtype([3, 1, 2], ordered=True)
    frame = pd.DataFrame({"x": X[:, 0], "city": cities, "n": X[:, 1].astype(np.int8)})
    frame["size"] = pd.Series([1, 2] * 25).astype(sizes)
    frame["flag"] = pd.Series([True, None] * 25, dtype="boolean")
    return frame


def of_a_table():
    """An autoencoder of `table`, two of whose levels share an input."""
    return AutoencoderTransformer(
        2, hidden_layer_sizes=(3,), max_iter=5, max_categories=2, random_state=0
    ).fit(table())


def table_imputer():
    """An imputer of `table`, four times as long, with a column that it leaves out."""
    network = AutoencoderTransformer(2, hidden_layer_sizes=(2,), max_iter=2)
    frame = pd.concat([table()] * 4, ignore_index=True).assign(empty=np.nan)
    fitted = AutoencoderImputer(network, max_categories=2, random_state=0).fit(frame)
    fitted.weight_ = np.array([0.0, 0.5, 1.0, 0.25, 0.0])
    return fitted, frame


def table_detector():
    """A detector of `table`."""
    network = AutoencoderTransformer(1, hidden_layer_sizes=(), max_iter=2)
    return AutoencoderOutlierDetector(network, random_state=0).fit(table())


def main():
    """Write the files."""
    warnings.simplefilter("ignore")
    for name, model in models():
        path = FOLDER / f"{name}.safetensors"
        skae.io.save(model, path)
        columns = getattr(model, "feature_names_in_", None)
        code = model.transform(pd.DataFrame(X, columns=columns))
        assert (8 * 8 * 2 * code == np.round(8 * 8 * 2 * code)).all()
        of_incomplete = model.transform(pd.DataFrame(INCOMPLETE, columns=columns))
        arrays = {"X": X, "code": code, "code_of_incomplete": of_incomplete}
        np.savez_compressed(path.with_suffix(".npz"), **arrays)
    path, model = FOLDER / "AutoencoderImputer_3.safetensors", imputer()
    skae.io.save(model, path)
    imputed = model.transform(pd.DataFrame(MORE, columns=model.feature_names_in_))
    np.savez_compressed(path.with_suffix(".npz"), imputed=imputed)
    path, model = FOLDER / "AutoencoderOutlierDetector_3.safetensors", detector()
    skae.io.save(model, path)
    rows = pd.DataFrame(INCOMPLETE, columns=model.feature_names_in_)
    results = {"scores": model.score_samples(rows), "p_values": model.p_values(rows)}
    np.savez_compressed(path.with_suffix(".npz"), **results)
    path, model = FOLDER / "AutoencoderTransformer_4.safetensors", of_a_table()
    skae.io.save(model, path)
    np.savez_compressed(path.with_suffix(".npz"), code=model.transform(table()))
    path, (model, frame) = FOLDER / "AutoencoderImputer_4.safetensors", table_imputer()
    skae.io.save(model, path)
    text = model.transform(frame).to_csv(index=False)
    path.with_suffix(".csv").write_text(text, encoding="utf-8")
    path, model = FOLDER / "AutoencoderOutlierDetector_4.safetensors", table_detector()
    skae.io.save(model, path)
    scores = model.score_samples(table())
    np.savez_compressed(path.with_suffix(".npz"), scores=scores)


if __name__ == "__main__":
    main()
