"""
==============
Denoise images
==============

An autoencoder that has seen corrupted images in training, with the clean ones to
reconstruct, removes noise; a plain one reproduces what it can of it (Vincent et al.,
2010). ``noise="masking"`` is all it takes: the images are corrupted anew in every
epoch, inside the compiled loop.
"""

# %%
# Two autoencoders, the same but for the noise
# --------------------------------------------
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.datasets import fetch_mnist
from skae.inspection import ComponentsDisplay, ReconstructionDisplay

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
plain = AutoencoderTransformer(
    64 if is_mnist else 32,
    hidden_layer_sizes=(),
    code_activation="relu",
    loss="log_loss",
    max_iter=15 if is_mnist else 200,
    learning_rate="cosine",
    learning_rate_init=0.003,
    n_iter_no_change=np.inf,
    random_state=0,
)
plain.fit(X_train)
denoising = AutoencoderTransformer(**plain.get_params())
denoising.set_params(noise="masking", noise_level=0.3)
begin = time.perf_counter()
denoising.fit(X_train)
seconds = time.perf_counter() - begin

# %%
# Test images, of which three pixels in ten are lost
# --------------------------------------------------
rng = np.random.default_rng(0)
lost = rng.random(X_test.shape) < 0.3
corrupted = np.where(lost, 0, X_test).astype(np.float32)


def reconstruct(model):
    return model.inverse_transform(model.transform(corrupted))


def r2(model):
    """Share of the variance of the clean images that is reconstructed."""
    rest = np.square(X_test - reconstruct(model)).sum()
    return 1 - rest / np.square(X_test - model.mean_).sum()


print(f"R² of the clean images: plain {r2(plain):.3f}, denoising {r2(denoising):.3f}")

first = [np.flatnonzero(y_test == digit)[0] for digit in range(10)]
rows = {"corrupted": corrupted}
rows |= {"plain": reconstruct(plain), "denoising": reconstruct(denoising)}
ReconstructionDisplay.from_predictions(
    X_test, rows, which=first, image_shape=image_shape
)
plt.show()

# %%
# What the units of the code look for
# -----------------------------------
#
# With noise a unit cannot rely on single pixels: its weights are smooth.
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for ax, model, title in zip(
    axes, (plain, denoising), ("plain", "denoising"), strict=True
):
    ComponentsDisplay.from_estimator(model, image_shape=image_shape, ax=ax)
    ax.set_title(title)
plt.show()
