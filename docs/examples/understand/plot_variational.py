"""
=================================================
Walk through a variational code, and draw samples
=================================================

A variational autoencoder learns a distribution: codes are drawn from a normal prior,
and each code is decoded to an image. So one can walk through the codes, and draw new
images.
"""
# sphinx_gallery_thumbnail_number = 2

# %%
# Two numbers an image
# --------------------
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import VariationalAutoencoderTransformer
from skae.datasets import fetch_mnist
from skae.inspection import LatentSpaceDisplay, ReconstructionDisplay

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
walk = VariationalAutoencoderTransformer(
    2,
    hidden_layer_sizes=(256, 64) if is_mnist else (100, 50),
    loss="log_loss",
    max_iter=12 if is_mnist else 300,
    learning_rate="cosine",
    n_iter_no_change=np.inf,
    random_state=0,
)
walk.fit(X_train)

figure, ax = plt.subplots(figsize=(6, 5), layout="constrained")
LatentSpaceDisplay.from_estimator(walk, X_test, y_test, ax=ax, s=4, cmap="tab10")
ax.set(title="Test images", aspect="equal")
plt.show()

# %%
# The walk
# --------
#
# Codes on a grid of the prior's quantiles, decoded. Neighbors are alike: there are no
# holes between the digits.
n_steps = 12
quantiles = norm.ppf((np.arange(n_steps) + 0.5) / n_steps)
grid = np.array([[x, y] for y in quantiles[::-1] for x in quantiles])
height, width = image_shape[0] + 1, image_shape[1] + 1  # with a line between them
tiles = np.zeros((n_steps, n_steps, height, width))
tiles[..., :-1, :-1] = walk.inverse_transform(grid).reshape(
    n_steps, n_steps, *image_shape
)
figure, ax = plt.subplots(figsize=(5.5, 5.5), layout="constrained")
ax.imshow(
    tiles.transpose(0, 2, 1, 3).reshape(n_steps * height, n_steps * width),
    cmap="gray_r",
    vmin=0,
    vmax=1,
)
ticks = (np.arange(n_steps) + 0.5)[::3]
labels = [f"{q:.1f}" for q in quantiles[::3]]
ax.set_xticks(ticks * width, labels)
ax.set_yticks(ticks * height, [f"{q:.1f}" for q in quantiles[::-1][::3]])
ax.set(xlabel="first entry of the code", ylabel="second")
plt.show()

# %%
# Samples from a larger code
# --------------------------
#
# ``elbo`` bounds the logarithm of an image's probability: images unlike those of
# training have a low one.
large = VariationalAutoencoderTransformer(**walk.get_params()).set_params(
    n_components=10
)
begin = time.perf_counter()
large.fit(X_train)
seconds = time.perf_counter() - begin
samples = large.sample(20, random_state=0)
bound = large.elbo(X_test)
order = np.argsort(bound)
rows = {"": samples[10:], "lowest bound": X_test[order[:10]]}
rows["highest bound"] = X_test[order[-10:]]
display = ReconstructionDisplay.from_predictions(
    samples[:10], rows, image_shape=image_shape
)
display.ax_.set_yticks(display.ax_.get_yticks(), ["samples", *rows])
plt.show()
print(f"mean bound of the test images: {bound.mean():.1f} nats")

figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.plot(large.loss_curve_, label="objective")
ax.plot(large.kl_curve_, label="divergence")
ax.set(xlabel="epoch", ylabel="nats an image")
ax.legend()
plt.show()
