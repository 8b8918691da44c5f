"""
=================================================
Find outliers, and the features that make them so
=================================================

:class:`~skae.AutoencoderOutlierDetector` on measurements of cells, beside other
detectors: verdicts, p-values, the features to blame. At the end, images, for which the
error of an autoencoder is the better score.
"""
# sphinx_gallery_thumbnail_number = 3

# %%
# Verdicts
# --------
#
# Thirty measurements of the cell nuclei of each of 569 tumors. The detector sees two
# thirds of the benign ones, and no malignant one. `predict` is -1 for outliers.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.inspection import OutlierDisplay

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
train, benign = train_test_split(X[y == 1], test_size=1 / 3, random_state=0)
malignant = X[y == 0]

detector = AutoencoderOutlierDetector(random_state=0).fit(train)
for name, samples in {"benign": benign, "malignant": malignant}.items():
    n_outliers = np.count_nonzero(detector.predict(samples) == -1)
    print(f"{name}: {n_outliers} of {len(samples)} are outliers")

# %%
# P-values
# --------
#
# How unusual is a score? `p_values` compares it with those of held-out training
# samples. New benign samples have small and large p-values equally often: about one in
# ten of them has 0.1 or less, which is the rate of false alarms at ``alpha=0.1``.
p_values = {
    "benign": detector.p_values(benign),
    "malignant": detector.p_values(malignant),
}
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
bins = np.linspace(0, 1, 21)
for name, values in p_values.items():
    shares = np.full(len(values), 1 / len(values))
    ax.hist(values, bins, weights=shares, alpha=0.6, label=name)
ax.set(xlabel="p-value", ylabel="share of the samples")
ax.legend()
plt.show()

# %%
# Which features
# --------------
#
# Above all scores, below what the most unusual samples are unusual in:
# contributions of features to their scores.
OutlierDisplay.from_estimator(detector, pd.concat([benign, malignant]), n_features=4)
plt.show()

# %%
# Beside other detectors
# ----------------------
#
# Malignant cells are larger and more irregular, in one measurement after the other. A
# forest, which isolates samples by one feature at a time, needs no more than that. It
# is another matter with wrong entries. In each of the benign samples that were left
# out, one entry is replaced with that of another sample: a usual value, but beside the
# others it is not.
rng = np.random.default_rng(0)
numbers = np.arange(len(benign))
changed = rng.integers(X.shape[1], size=len(benign))
wrong = benign.to_numpy(copy=True)
wrong[numbers, changed] = train.to_numpy()[numbers, changed]
wrong = pd.DataFrame(wrong, benign.index, benign.columns)

detectors = {
    "AutoencoderOutlierDetector": detector,
    "IsolationForest": IsolationForest(random_state=0),
    "LocalOutlierFactor": make_pipeline(
        StandardScaler(), LocalOutlierFactor(novelty=True)
    ),
}
cases = {"malignant": malignant, "a wrong entry": wrong}
labels = {
    "xlabel": "share of usual samples reported",
    "ylabel": "share of odd samples reported",
}
figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
for name, other in detectors.items():
    if other is not detector:
        other.fit(train)
    for ax, (case, odd) in zip(axes, cases.items(), strict=True):
        is_odd = np.repeat([False, True], [len(benign), len(odd)])
        scores = -other.score_samples(pd.concat([benign, odd]))
        RocCurveDisplay.from_predictions(is_odd, scores, name=name, ax=ax)
        ax.set(title=case, **labels)
plt.show()

# %%
# And `feature_scores` tells which entry is wrong:
blamed = detector.feature_scores(wrong).argmax(axis=1)
print(f"the wrong entry is blamed most in {np.mean(blamed == changed):.0%} of samples")

# %%
# Images
# ------
#
# Pixels share a unit, and some that are nearly always white matter little. In units of
# its own deviation each counts as much as the others, which is worse here than the
# plain error of an autoencoder, fitted to the digits 0 to 4; 5 to 9 are the anomalies.
# `score_samples` is its negative, so that it is higher for normal samples, too.
D, digit = load_digits(return_X_y=True)
D = D / 16
train, low = train_test_split(D[digit < 5], random_state=0)
high = D[digit >= 5]
is_high = np.repeat([False, True], [len(low), len(high)])

model = AutoencoderTransformer(
    5,
    max_iter=150,
    learning_rate="cosine",
    learning_rate_init=0.003,
    random_state=0,
).fit(train)
detector = AutoencoderOutlierDetector(random_state=0).fit(train)
figure, ax = plt.subplots(figsize=(4.6, 4.6), layout="constrained")
for name, other in {"error": model, "AutoencoderOutlierDetector": detector}.items():
    scores = -other.score_samples(np.vstack([low, high]))
    RocCurveDisplay.from_predictions(is_high, scores, name=name, ax=ax)
ax.set(**labels)
plt.show()

# %%
# ``per_feature=True`` leaves the errors as they are before they are summed: here, those
# of the pixels. What the network cannot draw is what no digit up to 4 has.
chosen = [np.flatnonzero(digit == d)[0] for d in range(5, 10)]
pictures = {
    "image": D[chosen],
    "decoded": model.inverse_transform(model.transform(D[chosen])),
    "error": model.reconstruction_error(D[chosen], per_feature=True),
}
figure, axes = plt.subplots(3, 5, figsize=(6.5, 3.8), layout="constrained")
for row, (name, images) in zip(axes, pictures.items(), strict=True):
    cmap = "Reds" if name == "error" else "gray_r"
    for ax, image in zip(row, images, strict=True):
        picture = ax.imshow(image.reshape(8, 8), cmap=cmap, vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.colorbar(picture, ax=axes[2], label="squared error")
plt.show()
