"""
================================
MNIST in 32 numbers
================================

784-32-784, the first network of "Building Autoencoders in Keras" (Chollet, 2016): a
rectified code, a logistic output, cross-entropy, 50 epochs of batches of 256, the test
set for validation. It was published with a loss of about 0.093 a pixel, and comes to
0.0917 with Adam in place of Adadelta.
"""
# sphinx_gallery_thumbnail_number = 2

# %%
# The same network
# ----------------
#
# MNIST, or scikit-learn's small digits where ``SKAE_DATA`` does not name a folder with
# MNIST.
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from example_data import load_images
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer
from skae.inspection import LossCurveDisplay, ReconstructionDisplay

# The rule says when training ends, not a plateau.
warnings.simplefilter("ignore", ConvergenceWarning)

images = load_images()
n_components = 32 if images.are_large else 8
model = AutoencoderTransformer(
    n_components,
    hidden_layer_sizes=(),
    code_activation="relu",
    loss="log_loss",
    learning_rate="constant",
    batch_size=256 if images.are_large else 32,
    max_iter=50 if images.are_large else 500,
    tol=0,
    n_iter_no_change=np.inf,
    random_state=0,
)
begin = time.perf_counter()
model.fit(images.train, X_val=images.test)
seconds = time.perf_counter() - begin
# The loss is a sum over the pixels.
cross_entropy = min(model.validation_loss_curve_) / images.test.shape[1]
print(f"test cross-entropy a pixel: {cross_entropy:.4f}, in {seconds:.1f} s")

LossCurveDisplay.from_estimator(model)
plt.show()

# %%
# Originals over reconstructions
# ------------------------------
#
# PCA of the same size is the best linear autoencoder. The columns are the first ten
# images of the test set.
pca = PCA(n_components, random_state=0).fit(images.train)


def r2(transformer):
    """Share of the test images' variance that is reconstructed."""
    rest = images.test - transformer.inverse_transform(
        transformer.transform(images.test)
    )
    return 1 - np.square(rest).sum() / np.square(images.test - pca.mean_).sum()


print(f"R²: PCA {r2(pca):.3f}, autoencoder {r2(model):.3f}")
ReconstructionDisplay.from_estimator(
    {"PCA": pca, "autoencoder": model}, images.test, image_shape=images.shape
)
plt.show()

# %%
# Ten numbers, and hidden layers
# ------------------------------
#
# The smaller the code, the more is won: hidden layers find digits in ten numbers, of
# which PCA makes shadows.
n_few = 10 if images.are_large else 4
deep = AutoencoderTransformer(
    n_few,
    hidden_layer_sizes=(256, 64),
    loss="log_loss",
    max_iter=12 if images.are_large else 100,
    learning_rate="cosine",
    learning_rate_init=0.002,
    random_state=0,
)
deep.fit(images.train)
few = PCA(n_few, random_state=0).fit(images.train)
print(f"R² of {n_few} numbers: PCA {r2(few):.3f}, autoencoder {r2(deep):.3f}")
ReconstructionDisplay.from_estimator(
    {"PCA": few, "autoencoder": deep}, images.test, image_shape=images.shape
)
plt.show()
