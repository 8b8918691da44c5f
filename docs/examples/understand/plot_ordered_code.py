"""
===================================
Read the entries of an ordered code
===================================

The entries of a linear code are uncorrelated and in the order of what they explain, as
those of PCA are. So one fit with a large code tells how small it may be.
"""

# %%
# What each entry explains
# ------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer

X, y = load_digits(return_X_y=True)
n_components = 15
model = AutoencoderTransformer(
    n_components, learning_rate_init=0.003, random_state=0
).fit(X)
pca = PCA(n_components, random_state=0).fit(X)
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
entries = np.arange(1, n_components + 1)
ax.plot(entries, np.cumsum(pca.explained_variance_ratio_), "o-", label="PCA")
ax.plot(
    entries,
    np.cumsum(model.explained_variance_ratio_),
    "s-",
    label="autoencoder: linear functions of the code",
)
ax.axhline(model.score(X), color="C1", linestyle=":", label="autoencoder: its decoder")
ax.set(xlabel="entries of the code", ylabel="share of the variance")
ax.legend()
plt.show()

# %%
# Uncorrelated
# ------------
correlations = np.corrcoef(model.transform(X), rowvar=False)
largest = np.abs(correlations - np.eye(n_components)).max()
print(f"largest correlation of two entries: {largest:.1e}")
figure, ax = plt.subplots(figsize=(4.5, 3.8), layout="constrained")
picture = ax.imshow(correlations, cmap="RdBu_r", vmin=-1, vmax=1)
ticks = range(0, n_components, 2)
ax.set(xlabel="entry", ylabel="entry", xticks=ticks, yticks=ticks)
figure.colorbar(picture, ax=ax, label="correlation")
plt.show()

# %%
# One entry, moved
# ----------------
#
# What an entry means is seen by moving it, from the mean code, by two standard
# deviations either way, and decoding.
code = model.transform(X)
steps = np.linspace(-2, 2, 9)
figure, axes = plt.subplots(5, 9, figsize=(7, 4.3), layout="constrained")
for entry, row in enumerate(axes):
    moved = np.repeat(code.mean(axis=0, keepdims=True), len(steps), axis=0)
    moved[:, entry] += steps * code[:, entry].std()
    for ax, image in zip(row, model.inverse_transform(moved), strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"entry {entry}", rotation=0, ha="right", va="center")
plt.show()
