"""
=================================
Train on data with missing values
=================================

An :class:`~skae.AutoencoderTransformer` takes missing values, in training and later.
"""

# %%
# Remove entries, and reconstruct complete images
# -----------------------------------------------
#
# Pixels are removed at random from the training images; test images are complete. PCA
# needs an imputation first; the autoencoder is trained on the pixels that are there. It
# reconstructs more of the test images at every share; the gain shrinks if many are
# missing.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_r2_score

X_train, X_test = train_test_split(load_digits().data / 16, random_state=0)
removed = np.random.default_rng(0).random(X_train.shape)


def models():
    return {
        "autoencoder": AutoencoderTransformer(10, random_state=0),
        "mean imputation, PCA": make_pipeline(SimpleImputer(), PCA(10)),
    }


shares = [0.0, 0.15, 0.3, 0.45, 0.6]
scores = {name: [] for name in models()}
for share in shares:
    incomplete = np.where(removed < share, np.nan, X_train)
    for name, model in models().items():
        model.fit(incomplete)
        scores[name].append(reconstruction_r2_score(model, X_test))

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, values in scores.items():
    ax.plot(shares, values, "o-", label=name)
ax.set(xlabel="share of training pixels removed", ylabel="R² of complete test images")
ax.legend()
plt.show()

# %%
# Reconstruct incomplete images
# -----------------------------
#
# Where pixels of a test image are missing, the network sees their expectations given
# the rest, and its reconstruction fills them in.
incomplete = np.where(removed < 0.4, np.nan, X_train)
autoencoder = AutoencoderTransformer(10, random_state=0).fit(incomplete)
hidden = np.random.default_rng(1).random(X_test.shape) < 0.4
seen = np.where(hidden, np.nan, X_test)
restored = autoencoder.inverse_transform(autoencoder.transform(seen))

figure, axes = plt.subplots(3, 8, figsize=(8, 3.4), layout="constrained")
colors = plt.get_cmap("gray_r").with_extremes(bad="tab:orange")
rows = {"original": X_test, "40 % missing": seen, "restored": restored}
for (name, images), of_row in zip(rows.items(), axes, strict=True):
    for image, ax in zip(images, of_row, strict=False):
        ax.imshow(image.reshape(8, 8), cmap=colors, vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    of_row[0].set_ylabel(name)
plt.show()
