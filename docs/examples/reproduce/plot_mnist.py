"""
===============================
784-32-784: MNIST in 32 numbers
===============================

784-32-784, the first network of "Building Autoencoders in Keras" (Chollet, 2016): a
rectified code, a logistic output, cross-entropy, 50 epochs of batches of 256, the test
set for validation. It was published with a loss of about 0.093 a pixel, and comes to
0.0917 with Adam in place of Adadelta.
"""
# sphinx_gallery_thumbnail_number = 2

# %%
# The same network
# ----------------
import os
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.datasets import fetch_mnist
from skae.inspection import LossCurveDisplay, ReconstructionDisplay

# The rule says when training ends, not a plateau.
warnings.simplefilter("ignore", ConvergenceWarning)

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
n_components = 32 if is_mnist else 8
model = AutoencoderTransformer(
    n_components,
    hidden_layer_sizes=(),
    code_activation="relu",
    loss="log_loss",
    learning_rate="constant",
    batch_size=256 if is_mnist else 32,
    max_iter=50 if is_mnist else 500,
    tol=0,
    n_iter_no_change=np.inf,
    random_state=0,
)
begin = time.perf_counter()
model.fit(X_train, X_val=X_test)
seconds = time.perf_counter() - begin
# The loss is a sum over the pixels.
cross_entropy = min(model.validation_loss_curve_) / X_test.shape[1]
print(f"test cross-entropy a pixel: {cross_entropy:.4f}, in {seconds:.1f} s")

LossCurveDisplay.from_estimator(model)
plt.show()

# %%
# Originals over reconstructions
# ------------------------------
#
# PCA of the same size is the best linear autoencoder. The columns are the first ten
# images of the test set.
pca = PCA(n_components, random_state=0).fit(X_train)


def r2(transformer):
    """Share of the test images' variance that is reconstructed."""
    rest = X_test - transformer.inverse_transform(transformer.transform(X_test))
    return 1 - np.square(rest).sum() / np.square(X_test - pca.mean_).sum()


print(f"R²: PCA {r2(pca):.3f}, autoencoder {r2(model):.3f}")
ReconstructionDisplay.from_estimator(
    {"PCA": pca, "autoencoder": model}, X_test, image_shape=image_shape
)
plt.show()

# %%
# Ten numbers, and hidden layers
# ------------------------------
#
# The smaller the code, the more is won: hidden layers find digits in ten numbers, of
# which PCA makes shadows.
n_few = 10 if is_mnist else 4
deep = AutoencoderTransformer(
    n_few,
    hidden_layer_sizes=(256, 64),
    loss="log_loss",
    max_iter=12 if is_mnist else 100,
    learning_rate="cosine",
    learning_rate_init=0.002,
    random_state=0,
)
deep.fit(X_train)
few = PCA(n_few, random_state=0).fit(X_train)
print(f"R² of {n_few} numbers: PCA {r2(few):.3f}, autoencoder {r2(deep):.3f}")
ReconstructionDisplay.from_estimator(
    {"PCA": few, "autoencoder": deep}, X_test, image_shape=image_shape
)
plt.show()
