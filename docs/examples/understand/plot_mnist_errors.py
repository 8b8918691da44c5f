"""
=============================================
See which images are easy, and which are hard
=============================================

Reconstruction errors differ from image to image: among the images that an autoencoder
reconstructs best, one digit outnumbers all others.
"""
# sphinx_gallery_thumbnail_number = 2

# %%
# A fit, and the error of each test image
# ---------------------------------------
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.datasets import fetch_mnist
from skae.inspection import ReconstructionDisplay, ReconstructionErrorDisplay

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
model = AutoencoderTransformer(
    32 if is_mnist else 8,
    hidden_layer_sizes=(),
    code_activation="relu",
    loss="log_loss",
    learning_rate="cosine",
    learning_rate_init=0.003,
    max_iter=15 if is_mnist else 100,
    random_state=0,
)
begin = time.perf_counter()
model.fit(X_train)
seconds = time.perf_counter() - begin
errors = model.reconstruction_error(X_test)
ReconstructionErrorDisplay.from_estimator(model, X_test)
plt.show()

# %%
# The best and the worst
# ----------------------
figure, axes = plt.subplots(2, 1, figsize=(8, 4), layout="constrained")
for ax, which in zip(axes, ("best", "worst"), strict=True):
    ReconstructionDisplay.from_estimator(
        {"autoencoder": model},
        X_test,
        which=which,
        image_shape=image_shape,
        ax=ax,
    )
    ax.set_title(which)
plt.show()

# %%
# The share of each digit among the best
# --------------------------------------
#
# Of MNIST it is the one, which is a single stroke; of the small digits the zero.
n_best = len(errors) // 10
best = np.argsort(errors)[:n_best]
shares = np.bincount(y_test[best], minlength=10) / n_best
expected = np.bincount(y_test, minlength=10) / len(errors)
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.bar(range(10), shares, label=f"among the {n_best} best")
ax.step(np.arange(11) - 0.5, [*expected, expected[-1]], where="post", color="k", lw=1)
ax.set(xlabel="digit (line: among all)", ylabel="share", xticks=range(10))
ax.legend()
plt.show()
print("most often among the best:", np.argmax(shares), f"{shares.max():.0%}")

# %%
# Errors by digit
# ---------------
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.boxplot([errors[y_test == digit] for digit in range(10)], sym=".")
ax.set_xticks(range(1, 11), range(10))
ax.set(xlabel="digit", ylabel="squared error")
plt.show()
