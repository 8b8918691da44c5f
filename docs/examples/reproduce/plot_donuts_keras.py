"""
============================================
Donuts, 4-2-4 with tied weights, as in Keras
============================================

"Autoencoder in Keras" (blog BreakOnExecute, 2017) ties weights by a layer class of its
own, and checks at the end that they are the same. Here that is one parameter, and the
validation rows are one argument.
"""
# sphinx_gallery_thumbnail_number = 3

# %%
# The rule
# --------
#
# Mean squared error, learning rate 0.1 with a decay of 1e-5 an update, momentum 0.95,
# 3000 full batches, and the last 33 % of the rows held out. Keras' cost is a mean over
# the four features, twice ours: its learning rate is halved here. (A cost that sums
# half the squared errors of four features has twice the gradient of one that averages
# the squares.)
import os
import pathlib
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import shuffle

from skae import AutoencoderTransformer
from skae.datasets import make_donuts
from skae.inspection import LatentSpaceDisplay, LossCurveDisplay

# The rule says when training ends, not a plateau.
warnings.simplefilter("ignore", ConvergenceWarning)

# The published data if the environment variable SKAE_DATA names their folder.
if folder := os.environ.get("SKAE_DATA"):
    published = np.load(pathlib.Path(folder, "donut_corr2.npy"))
    X, y = published[:, :4], published[:, 4].astype(int)
else:
    X, y = make_donuts(random_state=0)
X, y = shuffle(X, y, random_state=147)
X = MinMaxScaler().fit_transform(X)
n_train = int(0.67 * len(X))
model = AutoencoderTransformer(
    2,
    hidden_layer_sizes=(),
    code_activation="logistic",
    tied_weights=True,
    init="glorot",
    solver="sgd",
    learning_rate="inverse_time",
    learning_rate_init=0.1 * 2 / X.shape[1],
    decay=1e-5,
    momentum=0.95,
    nesterovs_momentum=False,
    batch_size=n_train,
    max_iter=3000,
    tol=0,
    n_iter_no_change=np.inf,
    random_state=0,
)
begin = time.perf_counter()
model.fit(X[:n_train], X_val=X[n_train:])
seconds = time.perf_counter() - begin

encoder, decoder = model.coefs_
is_tied = np.array_equal(encoder, decoder.T)
mean_squared_error = model.reconstruction_error(X[n_train:]).mean() / X.shape[1]
print(f"weights identical: {is_tied}; held-out cost {mean_squared_error:.6f}")

# %%
# Training and validation
# -----------------------
#
# No row was learnt by heart: there are only fourteen parameters.
LossCurveDisplay.from_estimator(model)
plt.show()

# %%
# The two matrices
# ----------------
figure, axes = plt.subplots(1, 2, figsize=(6, 3), layout="constrained", sharey=True)
limit = np.abs(encoder).max()
for ax, weights, title in zip(
    axes, (encoder, decoder.T), ("encoder", "decoder, transposed"), strict=True
):
    picture = ax.imshow(weights, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set(xlabel="unit", xticks=[0, 1], yticks=range(4), title=title)
axes[0].set_ylabel("feature")
figure.colorbar(picture, ax=axes, label="weight")
plt.show()

# %%
# The code
# --------
LatentSpaceDisplay.from_estimator(model, X, y, s=2, alpha=0.5)
plt.show()
