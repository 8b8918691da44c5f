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
import matplotlib.pyplot as plt
import numpy as np
from digit_images import load, show

from skae import AutoencoderTransformer

images = load()
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
denoising.set_params(noise="masking", noise_level=0.3).fit(images.train)

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
show(
    [
        images.test[first],
        corrupted[first],
        reconstruct(plain)[first],
        reconstruct(denoising)[first],
    ],
    images.shape,
    ["clean", "corrupted", "plain", "denoising"],
)
plt.show()

# %%
# What the units of the code look for
# -----------------------------------
#
# With noise a unit cannot rely on single pixels: its weights are smooth.
limit = max(np.abs(model.coefs_[0]).max() for model in (plain, denoising)) / 2
show(
    [
        model.coefs_[0].T[10 * i : 10 * i + 10]
        for model in (plain, denoising)
        for i in (0, 1)
    ],
    images.shape,
    ["plain", "", "denoising", ""],
    cmap="RdBu_r",
    limits=(-limit, limit),
)
plt.show()
