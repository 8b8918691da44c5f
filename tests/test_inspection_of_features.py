"""Displays of samples that are no images: walks along the code, profiles, strips."""

import itertools

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae.inspection import (
    ComponentsDisplay,
    LatentSpaceDisplay,
    LatentWalkDisplay,
    ReconstructionDisplay,
)

from .support.tables import lacking, make_table

WINE = load_wine(as_frame=True)
WINES = WINE.data
PIPELINE = make_pipeline(StandardScaler(), PCA(2)).fit(WINES)
DIGITS = load_digits().data[:100]
TABLE = make_table()
SMALL = {"max_iter": 5, "random_state": 0}
OF_TABLE = AutoencoderTransformer(2, **SMALL).fit(TABLE)
# Rows of TABLE in profiles of levels, in the order of its columns.
ROWS = ["height", *(f"city={city}" for city in ("Bonn", "Nice", "Oslo", "Rome")), "n"]
ROWS += ["large=False", "large=True", "size=L", "size=M", "size=S"]


def texts(labels):
    return [label.get_text() for label in labels]


def labels_overlap(figure, labels):
    """Whether labels, in their order, overlap or leave the figure."""
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in labels]
    inside = all(
        figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 + 1 for box in boxes
    )
    return not inside or any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


# Walks


def test_a_walk_decodes_quantiles_of_one_entry(pyplot):
    display = LatentWalkDisplay.from_estimator(
        PIPELINE, WINES, components=[1, 0], n_steps=3, span=(0.1, 0.9)
    )
    codes = PIPELINE.transform(WINES)
    for walk, steps, entry in zip(
        display.reconstructions, display.steps, [1, 0], strict=True
    ):
        assert steps == pytest.approx(np.quantile(codes[:, entry], [0.1, 0.5, 0.9]))
        at = np.tile(codes.mean(axis=0), (3, 1))
        at[:, entry] = steps
        np.testing.assert_allclose(walk, PIPELINE.inverse_transform(at))
    # What is drawn are standard deviations from the mean, side by side.
    units = (display.reconstructions - WINES.mean().to_numpy()) / WINES.std(
        ddof=0
    ).to_numpy()
    drawn = np.reshape(display.image_.get_array(), (13, 7))
    assert np.ma.getmaskarray(drawn)[:, 3].all()
    np.testing.assert_allclose(drawn[:, :3].T, units[0])
    np.testing.assert_allclose(drawn[:, 4:].T, units[1])
    ax = display.ax_
    assert texts(ax.get_yticklabels()) == WINES.columns.tolist()
    assert texts(ax.child_axes[0].get_xticklabels()) == ["code 1", "code 0"]
    assert [text.split("\n")[0] for text in texts(ax.get_xticklabels())] == [
        *("10 %", "50 %", "90 %") * 2
    ]
    assert display.image_.cmap.name == "RdBu_r"
    assert display.image_.get_clim() == (-2, 2)
    # Cells say the values in the units of the features.
    assert texts(ax.texts)[:3] == [f"{v:.2f}" for v in display.reconstructions[0, :, 0]]


def test_a_walk_from_a_sample(pyplot):
    model = AutoencoderTransformer(3, **SMALL).fit(DIGITS)
    display = LatentWalkDisplay.from_estimator(model, DIGITS, sample=7, cmap="viridis")
    codes = model.transform(DIGITS)
    levels = [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95]
    at = np.tile(codes[7], (7, 1))
    at[:, 2] = np.quantile(codes[:, 2], levels)
    np.testing.assert_allclose(
        display.reconstructions[2], model.inverse_transform(at), atol=1e-9
    )
    picture = display.image_.get_array()
    assert picture.shape == (3 * 8 + 2, 7 * 8 + 6)
    np.testing.assert_allclose(
        picture[18:, :8].ravel(), display.reconstructions[2, 0], atol=1e-9
    )
    assert display.image_.get_clim() == (DIGITS.min(), DIGITS.max())
    assert display.image_.cmap.name == "viridis"
    assert texts(display.ax_.get_yticklabels()) == ["code 0", "code 1", "code 2"]
    shares = [f"{100 * level:.0f} %" for level in levels]
    assert texts(display.ax_.get_xticklabels()) == shares
    assert display.ax_.get_xticks() == pytest.approx(3.5 + 9 * np.arange(7))
    assert display.colorbar_ is None
    labels = [*display.ax_.get_yticklabels(), display.ax_.xaxis.label]
    assert not labels_overlap(display.figure_, labels)
    assert display.ax_.xaxis.label.get_window_extent().y0 >= 0


@pytest.mark.parametrize(
    "estimator",
    [
        OF_TABLE,
        VariationalAutoencoderTransformer(2, **SMALL).fit(TABLE),
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(), ["size", "city", "large"]),
                (StandardScaler(), ["n", "height"]),
            ),
            PCA(2),
        ).fit(TABLE),
    ],
    ids=["autoencoder", "variational", "one-hot"],
)
def test_walks_of_tables_have_a_row_for_each_level(pyplot, estimator):
    display = LatentWalkDisplay.from_estimator(estimator, TABLE)
    assert texts(display.ax_.get_yticklabels()) == ROWS
    rows = dict(zip(ROWS, display.reconstructions[0].T, strict=True))
    for column in ("city", "large", "size"):
        levels = [row for name, row in rows.items() if name.startswith(f"{column}=")]
        np.testing.assert_allclose(np.sum(levels, axis=0), 1)
    assert 140 < rows["height"].min() < rows["height"].max() < 200
    # The level that is decoded is the most probable one.
    if estimator is OF_TABLE:
        codes = np.tile(OF_TABLE.transform(TABLE).mean(axis=0), (7, 1))
        codes[:, 0] = display.steps[0]
        decoded = OF_TABLE.inverse_transform(codes)
        cities = ["Bonn", "Nice", "Oslo", "Rome"]
        likely = np.argmax([rows[f"city={city}"] for city in cities], axis=0)
        assert decoded["city"].tolist() == [cities[i] for i in likely]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"components": [2]}, r"components=\[2\] must be a list .* from 0 to 1"),
        ({"components": 0}, "components=0 must be a list of whole numbers"),
        ({"components": []}, r"components=\[\] must be"),
        ({"components": [0.5]}, r"components=\[0\.5\] must be"),
        ({"n_steps": 1}, "n_steps == 1, must be >= 2"),
        ({"span": (0.5, 0.5)}, r"span=\(0\.5, 0\.5\) must be two quantiles"),
        ({"span": (5, 95)}, r"span=\(5, 95\) must be"),
        ({"span": 0.9}, r"span=0\.9 must be"),
        ({"sample": 178}, "sample=178 must be a whole number from 0 to 177"),
        ({"image_shape": (3, 4)}, r"image_shape=\(3, 4\) is not possible"),
        ({"feature_names": ["a"]}, "feature_names has 1 names, but there are 13 feat"),
    ],
)
def test_bad_walks(pyplot, parameters, message):
    with pytest.raises(ValueError, match=message):
        LatentWalkDisplay.from_estimator(PIPELINE, WINES, **parameters)
    assert pyplot.get_fignums() == []


def test_what_cannot_walk(pyplot):
    with pytest.raises(NotFittedError):
        LatentWalkDisplay.from_estimator(AutoencoderTransformer(), WINES)
    with pytest.raises(TypeError, match="FactorAnalysis has no inverse_transform"):
        LatentWalkDisplay.from_estimator(FactorAnalysis(1).fit(WINES), WINES)


def test_walks_of_given_reconstructions(pyplot):
    display = LatentWalkDisplay(
        reconstructions=[[[0, 5], [2, 5]]], steps=[[-1, 1]], components=[3]
    ).plot()
    # In deviations of what is decoded; a constant feature does not change.
    drawn = np.reshape(display.image_.get_array(), (2, 2))
    assert drawn.tolist() == [[-1, 1], [0, 0]]
    assert texts(display.ax_.get_yticklabels()) == ["x0", "x1"]
    assert display.ax_.get_xlabel() == "Value of the entry"


# Profiles of reconstructions


def test_points_are_standard_deviations_from_the_mean(pyplot):
    autoencoder = AutoencoderTransformer(2, scale="standard", **SMALL).fit(WINES)
    models = {"autoencoder": autoencoder, "PCA": PIPELINE}
    display = ReconstructionDisplay.from_estimator(models, WINES, which=[40, 3])
    assert display.image_ is None
    means, deviations = WINES.mean().to_numpy(), WINES.std(ddof=0).to_numpy()
    rows = WINES.iloc[[40, 3]]
    given = {"original": rows.to_numpy()} | {
        name: np.asarray(model.inverse_transform(model.transform(rows)))
        for name, model in models.items()
    }
    units = {name: (values - means) / deviations for name, values in given.items()}
    edge = max(2.0, *(np.abs(values).max() for values in units.values()))
    assert edge < 4
    for name, values in units.items():
        line = display.lines_[name]
        expected = [[0.5], [1.5]] + 0.43 * values / edge
        assert line.get_xdata() == pytest.approx(expected.ravel())
        assert np.round(line.get_ydata()).tolist() == [*range(13)] * 2
    assert texts(display.ax_.get_yticklabels()) == WINES.columns.tolist()
    titles = display.ax_.child_axes[0].get_xticklabels()
    assert texts(titles) == ["sample 40", "sample 3"]
    legend = display.ax_.get_legend()
    assert texts(legend.get_texts()) == ["original", "autoencoder", "PCA"]
    # Ticks are where these deviations are.
    ticks = display.ax_.get_xticks()
    assert ticks[:3] == pytest.approx(0.5 + 0.43 * np.array([-2, 0, 2]) / edge)


def test_worst_profiles_and_values_beyond_the_edge(pyplot):
    """Features count by their spread, as they are drawn; far values are triangles."""
    X = np.random.default_rng(0).normal(size=(200, 3)) * [1, 1, 1000]
    X[7] = [12, 0, 0]
    X[9, 2] = 3500
    model = PCA(3).fit(X)
    shrunken = X.copy()
    shrunken[7], shrunken[9, 2] = [6, 0, 0], 2500
    display = ReconstructionDisplay.from_predictions(
        X, {"shrunken": shrunken}, which="worst", n_images=2, feature_names=list("abc")
    )
    assert display.indices.tolist() == [7, 9]
    ((triangles, n_triangles),) = (
        (lines, len(lines[0].get_xdata()))
        for lines in [[li for li in display.ax_.lines if li.get_marker() == ">"]]
    )
    assert (len(triangles), n_triangles) == (2, 1)
    assert "(triangles: more than 4)" in display.ax_.get_xlabel()
    exact = ReconstructionDisplay.from_estimator(model, X, n_images=1, which="worst")
    assert exact.indices.shape == (1,)


def test_levels_are_right_or_wrong(pyplot):
    X = lacking(TABLE)[1:]
    display = ReconstructionDisplay.from_estimator(OF_TABLE, X, which="worst")
    errors = OF_TABLE.reconstruction_error(X)
    assert display.indices.tolist() == np.argsort(-errors, kind="stable")[:5].tolist()
    rows = X.iloc[display.indices]
    back = OF_TABLE.inverse_transform(OF_TABLE.transform(rows))
    expected = []
    for row, decoded in zip(rows.itertuples(), back.itertuples(), strict=True):
        for name in ("city", "large", "size"):
            of_row, found = getattr(row, name), str(getattr(decoded, name))
            level = "?" if isinstance(of_row, float) else str(of_row)
            expected.append(level if level == found else f"{level} → {found}")
    assert texts(display.ax_.texts) == expected
    assert any("→" in text and "?" not in text for text in expected)
    colors = {text.get_text(): text.get_color() for text in display.ax_.texts}
    for text, color in colors.items():
        assert color == ("C0" if "→" in text and "?" not in text else "0.3")
    # Only numbers are points.
    line = display.lines_["original"]
    assert line.get_ydata().tolist() == [0, 2] * 5
    assert texts(display.ax_.get_yticklabels()) == TABLE.columns.tolist()
    assert "decoded as" in texts(display.ax_.get_legend().get_texts())[-1]


def test_profiles_of_given_reconstructions(pyplot):
    X = WINES.to_numpy()
    display = ReconstructionDisplay.from_predictions(WINES, {"half": X / 2}, n_images=1)
    assert texts(display.ax_.get_yticklabels()) == WINES.columns.tolist()
    assert display.indices.tolist() == [0]
    named = ReconstructionDisplay.from_predictions(
        DIGITS, DIGITS, feature_names=[f"pixel {i}" for i in range(64)]
    )
    assert named.image_ is None
    with pytest.raises(TypeError, match=r"takes no \['cmap'\] for profiles"):
        ReconstructionDisplay.from_predictions(X, X, cmap="gray")
    with pytest.raises(ValueError, match="feature_names has 2 names, but there are 13"):
        ReconstructionDisplay.from_predictions(X, X, feature_names=["a", "b"])


# Weights and derivatives


def test_derivatives_of_the_decoder(pyplot):
    draw = ComponentsDisplay.from_estimator
    display = draw(OF_TABLE, source="decoder_jacobian")
    (jacobian,) = OF_TABLE.decoder_jacobian()
    of_inputs = dict(
        zip(
            OF_TABLE.input_names_,
            jacobian / OF_TABLE.scale_[:, np.newaxis],
            strict=True,
        )
    )
    expected = np.array([of_inputs[name] for name in ROWS])
    np.testing.assert_allclose(display.components, expected.T)
    drawn = np.reshape(display.image_.get_array(), expected.shape)
    np.testing.assert_allclose(drawn, expected / np.abs(expected).max(axis=0))
    assert texts(display.ax_.get_yticklabels()) == ROWS
    assert texts(display.ax_.get_xticklabels()) == ["code 0", "code 1"]
    assert display.colorbar_.ax.get_ylabel() == "Derivative / largest"
    # Images of a linear network are principal components, as the weights of PCA are.
    linear = AutoencoderTransformer(3, hidden_layer_sizes=(), **SMALL).fit(DIGITS)
    images = draw(linear, source="decoder_jacobian")
    np.testing.assert_allclose(
        images.components, PCA(3).fit(DIGITS).components_, atol=1e-4
    )
    with pytest.raises(TypeError, match="PCA has no decoder_jacobian"):
        draw(PIPELINE, source="decoder_jacobian")
    with pytest.raises(ValueError, match=r"source='code' must be one of \('weights'"):
        draw(PIPELINE, source="code")


def test_weights_by_feature(pyplot):
    display = ComponentsDisplay.from_estimator(PIPELINE)
    weights = PIPELINE[-1].components_
    drawn = np.reshape(display.image_.get_array(), (13, 2))
    np.testing.assert_allclose(drawn.T, weights / abs(weights).max(axis=1)[:, None])
    assert texts(display.ax_.get_yticklabels()) == WINES.columns.tolist()
    assert texts(display.ax_.get_xticklabels()) == ["0", "1"]
    model = AutoencoderTransformer(2, hidden_layer_sizes=(6,), **SMALL).fit(TABLE)
    display = ComponentsDisplay.from_estimator(model, order="first")
    city = model.input_names_.index("city=Rome")
    np.testing.assert_array_equal(
        display.components[:, ROWS.index("city=Rome")], model.coefs_[0][city]
    )


# Legibility


NAMES = [f"measurement number {i} of the sensor" for i in range(100)]
MANY = np.random.default_rng(0).normal(size=(120, 100))
PCA_OF_MANY = {n: PCA(2).fit(MANY[:, :n]) for n in (4, 100)}
DRAW = {
    "walk": lambda n, **how: LatentWalkDisplay.from_estimator(
        PCA_OF_MANY[n], MANY[:, :n], feature_names=NAMES[:n], **how
    ),
    "reconstructions": lambda n, **how: ReconstructionDisplay.from_estimator(
        PCA_OF_MANY[n], MANY[:, :n], n_images=2, feature_names=NAMES[:n], **how
    ),
    "weights": lambda n, **how: ComponentsDisplay.from_estimator(
        PCA_OF_MANY[n], feature_names=NAMES[:n], **how
    ),
}


@pytest.mark.parametrize("kind", DRAW)
@pytest.mark.parametrize("n_features", [4, 100])
def test_names_do_not_overlap(pyplot, kind, n_features):
    """Also if they are long, and differ at the end of what they have in common."""
    figure, ax = pyplot.subplots(figsize=(4, 4), layout="constrained")
    DRAW[kind](n_features, ax=ax)
    labels = ax.get_yticklabels()
    assert len(set(texts(labels))) == len(labels) > 3
    assert not labels_overlap(figure, labels)
    assert ax.get_window_extent().width > 0.25 * figure.bbox.width
    new = DRAW[kind](n_features)  # of a size that suits
    assert len(new.ax_.get_yticklabels()) == n_features
    assert not labels_overlap(new.figure_, new.ax_.get_yticklabels())
    assert not labels_overlap(new.figure_, new.ax_.get_xticklabels())


# Codes of one and three entries


def test_strips_of_a_single_entry(pyplot):
    y = np.array(["Barolo", "Grignolino", "Barbera"])[WINE.target]
    display = LatentSpaceDisplay.from_estimator(PCA(1).fit(WINES), WINES, y)
    code = PCA(1).fit_transform(WINES)[:, 0]
    x, heights = np.asarray(display.scatter_.get_offsets()).T
    assert x == pytest.approx(code)
    names = ["Barbera", "Barolo", "Grignolino"]
    assert texts(display.ax_.get_yticklabels()) == names
    assert [names[round(h)] for h in heights] == y.tolist()
    assert np.abs(heights - np.round(heights)).max() < 0.45
    assert len(np.unique(heights)) == len(heights)
    assert display.legend_ is display.colorbar_ is None
    assert display.ax_.get_xlabel() == "code 0"
    # A strip is widest where its samples are densest.
    dense = np.concatenate([np.zeros(200), np.linspace(5, 9, 20)])[:, np.newaxis]
    alone = LatentSpaceDisplay(code=dense).plot()
    x, heights = np.asarray(alone.scatter_.get_offsets()).T
    assert np.abs(heights[x == 0]).max() > 4 * np.abs(heights[x > 0]).max()
    assert len(alone.ax_.get_yticks()) == 0


def test_a_single_entry_beside_numbers(pyplot):
    y = WINES["alcohol"]
    display = LatentSpaceDisplay.from_estimator(PIPELINE, WINES, y, components=1)
    x, heights = np.asarray(display.scatter_.get_offsets()).T
    assert x == pytest.approx(PIPELINE.transform(WINES)[:, 1])
    assert heights.tolist() == y.tolist()
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("code 1", "alcohol")
    assert display.colorbar_ is None


def test_three_entries_are_drawn_in_space(pyplot):
    model = PCA(4).fit(WINES)
    display = LatentSpaceDisplay.from_estimator(
        model, WINES, WINE.target, components=(3, 0, 2)
    )
    drawn = np.array(display.scatter_._offsets3d)
    np.testing.assert_allclose(drawn, model.transform(WINES)[:, [3, 0, 2]].T)
    ax = display.ax_
    assert [ax.get_xlabel(), ax.get_ylabel(), ax.get_zlabel()] == [
        *("code 3", "code 0", "code 2")
    ]
    assert texts(display.legend_.get_texts()) == ["0", "1", "2"]
    display.figure_.draw_without_rendering()
    legend = display.legend_.get_window_extent()
    assert legend.x1 <= display.figure_.bbox.x1
    assert not legend.overlaps(ax.zaxis.label.get_window_extent())
    given = pyplot.figure().add_subplot(projection="3d")
    again = LatentSpaceDisplay.from_estimator(
        model, WINES, components=(0, 1, 2), ax=given
    )
    assert again.ax_ is given
    with pytest.raises(ValueError, match="ax is flat: pass axes made with proj"):
        LatentSpaceDisplay.from_estimator(
            model, WINES, components=(0, 1, 2), ax=pyplot.subplots()[1]
        )
