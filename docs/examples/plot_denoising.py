"""
=================
Denoised digits
=================

An autoencoder that has seen corrupted images in training, with the clean ones to
reconstruct, removes noise; a plain one reproduces what it can of it (Vincent et al.,
2010). ``noise="masking"`` is all it takes: the images are corrupted anew in every
epoch, inside the compiled loop.
"""

# %%
# Two autoencoders, the same but for the noise
# --------------------------------------------
#
# MNIST, or scikit-learn's small digits where ``SKAE_DATA`` does not name a folder with
# MNIST.
import time

import matplotlib.pyplot as plt
import numpy as np
from example_data import load_images

from skae import AutoencoderTransformer
from skae.inspection import ComponentsDisplay, ReconstructionDisplay

images = load_images()
plain = AutoencoderTransformer(
    64,
    hidden_layer_sizes=(),
    code_activation="relu",
    loss="log_loss",
    max_iter=15 if images.are_large else 200,
    learning_rate="cosine",
    learning_rate_init=0.003,
    n_iter_no_change=np.inf,
    random_state=0,
)
plain.fit(images.train)
denoising = AutoencoderTransformer(**plain.get_params())
denoising.set_params(noise="masking", noise_level=0.3)
begin = time.perf_counter()
denoising.fit(images.train)
seconds = time.perf_counter() - begin

# %%
# Test images, of which three pixels in ten are lost
# --------------------------------------------------
rng = np.random.default_rng(0)
lost = rng.random(images.test.shape) < 0.3
corrupted = np.where(lost, 0, images.test).astype(np.float32)


def reconstruct(model):
    return model.inverse_transform(model.transform(corrupted))


def r2(model):
    """Share of the variance of the clean images that is reconstructed."""
    rest = np.square(images.test - reconstruct(model)).sum()
    return 1 - rest / np.square(images.test - model.mean_).sum()


print(f"R² of the clean images: plain {r2(plain):.3f}, denoising {r2(denoising):.3f}")

first = [np.flatnonzero(images.labels_test == digit)[0] for digit in range(10)]
rows = {"corrupted": corrupted}
rows |= {"plain": reconstruct(plain), "denoising": reconstruct(denoising)}
ReconstructionDisplay.from_predictions(
    images.test, rows, which=first, image_shape=images.shape
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
    ComponentsDisplay.from_estimator(model, image_shape=images.shape, ax=ax)
    ax.set_title(title)
plt.show()
