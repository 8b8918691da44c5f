"""compare_with_pca and Displays of tables with categories."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderTransformer
from skae.inspection import (
    LatentSpaceDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
    ReconstructionErrorDisplay,
    compare_with_pca,
)
from skae.inspection._tables import PCAOfTable, TableEncoder
from skae.metrics import reconstruction_deviance_score, reconstruction_r2_score

Z = np.random.default_rng(0).normal(size=(90, 2))
TABLE = pd.DataFrame(
    {
        "size": 100 * Z[:, 0],
        "kind": np.array(["a", "b", "c", "d"])[np.digitize(Z[:, 0], [-1, 0, 1])],
        "weight": Z @ [0.01, 0.02],
        "flag": Z[:, 1] > 0,
    }
)
SMALL = AutoencoderTransformer(2, max_iter=5, random_state=0)


def test_comparison():
    X = TABLE.copy()
    X.loc[:3, "kind"] = None
    y = (Z[:, 0] > 0).astype(int)
    display = compare_with_pca(
        X, [1, 2], y=y, cv=3, estimator=SMALL, return_estimator=True
    )
    rows = pd.DataFrame(display.results)
    assert len(rows) == 12
    assert {"deviance_score", "accuracy"} <= set(rows)
    assert rows["accuracy"].between(0.3, 1).all()
    assert rows["prediction_score_all_features"].min() > 0.9
    assert list(map(type, rows["fitted"].map(lambda p: p[-1])))[::6] == [
        PCAOfTable,
        AutoencoderTransformer,
    ]
    text = repr(display)
    for part in ("accuracy of levels", "of the categories correctly", "PCA saw means"):
        assert part in text
    assert text.count("all features") == 1
    assert display._repr_html_().count("accuracy of levels") == 1
    assert display.plot() is display
    # What was held out has these scores, also in another kind of table.
    held_out = display.results["split"] == 0
    model = rows["fitted"][held_out].iloc[-1]
    again = compare_with_pca(
        X.to_numpy(dtype=object), [1, 2], y=y, cv=3, estimator=SMALL
    )
    for measure in ("test_score", "deviance_score", "accuracy"):
        np.testing.assert_allclose(again.results[measure], rows[measure], rtol=1e-9)
    assert -1 < reconstruction_deviance_score(model, X) < 1


def test_pca_of_tables_is_the_best_linear_code():
    """It explains what its variances say, and more than plain one-hot columns do."""
    pca = PCAOfTable(2).fit(TABLE)
    encoded = TableEncoder().fit_transform(TABLE)
    np.testing.assert_allclose(encoded.mean(axis=0), 0, atol=1e-12)
    # Each of the four columns has the variance 1.
    assert encoded.var(axis=0).sum() == pytest.approx(4)
    explained = PCA(2).fit(encoded).explained_variance_ratio_.sum()
    score = reconstruction_r2_score(pca, TABLE)
    assert explained <= score < explained + 0.05  # probabilities are in [0, 1]
    plain = make_pipeline(
        make_column_transformer(
            (StandardScaler(), ["size", "weight"]), (OneHotEncoder(), ["kind", "flag"])
        ),
        PCA(2),
    )
    assert reconstruction_r2_score(plain.fit(TABLE), TABLE) < score


def test_comparison_behind_an_encoder():
    """An autoencoder of encoded columns is compared on the table, too."""
    encode = make_column_transformer(
        (StandardScaler(), ["size", "weight"]), (OneHotEncoder(), ["kind", "flag"])
    )
    display = compare_with_pca(TABLE, 2, cv=2, estimator=make_pipeline(encode, SMALL))
    assert "accuracy" in display.results
    assert (display.results["test_score"] > 0).all()


@pytest.mark.parametrize("scale", ["auto", "standard"])
def test_comparison_behind_columns_of_numbers(scale):
    """A ColumnTransformer without encoders has no inverse, but its columns have."""
    X = pd.DataFrame(Z @ [[1, 2, 3], [3, 2, 1]], columns=list("abc")) ** 3
    choose = make_column_transformer(("passthrough", ["a", "b", "c"]))
    network = AutoencoderTransformer(1, scale=scale, max_iter=5, random_state=0)
    behind, alone = (
        compare_with_pca(X, 1, cv=2, estimator=estimator).results
        for estimator in (make_pipeline(choose, network), network)
    )
    np.testing.assert_allclose(behind["test_score"], alone["test_score"], rtol=1e-9)
    assert behind.keys() == alone.keys()


def test_displays():
    pytest.importorskip("matplotlib")
    model = SMALL.fit(TABLE)
    errors = ReconstructionErrorDisplay.from_estimator(model, TABLE).errors
    np.testing.assert_array_equal(
        errors["AutoencoderTransformer"], model.reconstruction_error(TABLE)
    )
    assert LossCurveDisplay.from_estimator(model).ax_ is not None
    display = LatentSpaceDisplay.from_estimator(model, TABLE, "kind")
    assert [t.get_text() for t in display.legend_.get_texts()] == ["a", "b", "c", "d"]
    assert display.legend_.get_title().get_text() == "kind"
    assert LatentSpaceDisplay.from_estimator(model, TABLE, "size").colorbar_
    back = model.inverse_transform(model.transform(TABLE))
    for draw, message in (
        (
            lambda: LatentSpaceDisplay.from_estimator(model, TABLE, "z"),
            "no column of X",
        ),
        (
            lambda: ReconstructionDisplay.from_estimator(
                model, TABLE, image_shape=(2, 2)
            ),
            r"image_shape=\(2, 2\), but X is a table with categories",
        ),
        (
            lambda: ReconstructionErrorDisplay.from_predictions(TABLE, back),
            "X has categories, but given",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            draw()
