"""
==========================================
See what the units of a sparse code detect
==========================================

With ``sparsity="kl"`` each unit of the code is active for few rows only (Ng, 2011).
To be of use so rarely, it has to stand for something that occurs in some images and
is absent from the others: strokes in their places, not a mixture of everything as a
principal component is.
"""
# sphinx_gallery_thumbnail_number = 2

# %%
# The same network, with and without the penalty
# ----------------------------------------------
#
# A little `alpha` keeps weights at zero where there is nothing to see.
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.datasets import fetch_mnist
from skae.inspection import ComponentsDisplay

# The digits of scikit-learn; MNIST if the environment variable SKAE_DATA is set.
is_mnist = bool(os.environ.get("SKAE_DATA"))
if is_mnist:
    X, y = fetch_mnist(return_X_y=True)
    parts = X[:60_000], X[60_000:], y[:60_000], y[60_000:]
else:
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X.astype(np.float32) / 16, y, random_state=0)
X_train, X_test, y_train, y_test = parts
image_shape = (28, 28) if is_mnist else (8, 8)
n_components = 196 if is_mnist else 40
dense = AutoencoderTransformer(
    n_components,
    hidden_layer_sizes=(),
    code_activation="logistic",
    loss="log_loss",
    alpha=0.01 if is_mnist else 0.001,
    max_iter=10 if is_mnist else 300,
    learning_rate="cosine",
    learning_rate_init=0.003,
    n_iter_no_change=np.inf,
    random_state=0,
)
dense.fit(X_train)
sparse = AutoencoderTransformer(**dense.get_params())
sparse.set_params(sparsity="kl", sparsity_target=0.1, sparsity_weight=3.0)
begin = time.perf_counter()
sparse.fit(X_train)
seconds = time.perf_counter() - begin

# %%
# How active the units are
# ------------------------
#
# ``mean_activation_`` is the mean over the training images of each unit.
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
bins = np.linspace(0, 1, 41)
dense_activation = dense.transform(X_train).mean(axis=0)
ax.hist(dense_activation, bins, alpha=0.6, label="plain")
ax.hist(sparse.mean_activation_, bins, alpha=0.6, label="sparse")
ax.axvline(sparse.sparsity_target, color="k", linestyle=":", label="target")
ax.set(xlabel="mean activation of a unit", ylabel="units")
ax.legend()
plt.show()
for name, model in (("plain", dense), ("sparse", sparse)):
    print(f"{name}: R² of the test images {model.score(X_test):.3f}")

# %%
# What a unit looks for
# ---------------------
#
# The encoder's weights, of the units with the largest, beside principal components.
pca = PCA(25, random_state=0).fit(X_train)
figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
models = {"PCA": pca, "plain": dense, "sparse": sparse}
for ax, (title, model) in zip(axes, models.items(), strict=True):
    ComponentsDisplay.from_estimator(model, image_shape=image_shape, ax=ax)
    ax.set_title(title)
plt.show()
