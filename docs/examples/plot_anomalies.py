"""
==================================
Anomalies, by row and by feature
==================================

A row that an autoencoder reconstructs badly is unlike those it was trained on. Which
features are badly reconstructed says why.
"""
# sphinx_gallery_thumbnail_number = 3

# %%
# Scores of rows
# --------------
#
# Trained on the digits 0 to 4 alone; 5 to 9 are the anomalies. `score_samples` is
# higher for normal rows, as scikit-learn's detectors have it.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

X, y = load_digits(return_X_y=True)
X = X / 16
train, held_out = train_test_split(X[y < 5], random_state=0)
others = X[y >= 5]
X_test = np.vstack([held_out, others])
is_anomaly = np.repeat([False, True], [len(held_out), len(others)])

n_components = 5
model = AutoencoderTransformer(
    n_components,
    max_iter=150,
    learning_rate="cosine",
    learning_rate_init=0.003,
    random_state=0,
).fit(train)
pca = PCA(n_components).fit(train)


def errors_of_pca(X):
    return np.square(X - pca.inverse_transform(pca.transform(X))).sum(axis=1)


scores = {"autoencoder": -model.score_samples(X_test), "PCA": errors_of_pca(X_test)}
aucs = {name: roc_auc_score(is_anomaly, score) for name, score in scores.items()}
print("area under the curve:", {name: f"{auc:.3f}" for name, auc in aucs.items()})
figure, ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
for name, score in scores.items():
    RocCurveDisplay.from_predictions(is_anomaly, score, name=name, ax=ax)
ax.set(xlabel="share of normal rows reported", ylabel="share of anomalies reported")
plt.show()

# %%
# How far they are apart
# ----------------------
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
for ax, (name, score) in zip(axes, scores.items(), strict=True):
    bins = np.linspace(0, score.max(), 40)
    ax.hist(score[~is_anomaly], bins, density=True, alpha=0.6, label="0 to 4, held out")
    ax.hist(score[is_anomaly], bins, density=True, alpha=0.6, label="5 to 9")
    ax.set(xlabel="squared error of a row", title=name)
axes[0].set_ylabel("density")
axes[0].legend()
plt.show()

# %%
# Which features
# --------------
#
# ``per_feature=True`` leaves the errors as they are before they are summed: here, those
# of the pixels. What the network cannot draw is what no digit up to 4 has.
chosen = [np.flatnonzero(y == digit)[0] for digit in range(5, 10)]
pictures = {
    "image": X[chosen],
    "decoded": model.inverse_transform(model.transform(X[chosen])),
    "error": model.reconstruction_error(X[chosen], per_feature=True),
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
