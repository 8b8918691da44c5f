"""
============================================
Donuts, 4-2-4 with tied weights, as in NumPy
============================================

"Autoencoder in Numpy" (blog BreakOnExecute, 2017) trains 4-2-4 on two noisy donuts,
of whose four features two are copies: a logistic code, a linear output with the
encoder's weights, and some eighty lines of forward and backward passes. It ends with a
cost, half the mean squared error, of 0.000948. Here are the same network and rule.
"""

# %%
# The rule
# --------
#
# Full batches, momentum, and a learning rate of 1e-5 for gradients that are summed over
# the rows; ours are means.
import os
import pathlib
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import MinMaxScaler

from skae import AutoencoderTransformer
from skae.datasets import make_donuts
from skae.inspection import LatentSpaceDisplay

# The rule says when training ends, not a plateau.
warnings.simplefilter("ignore", ConvergenceWarning)

# The published data if the environment variable SKAE_DATA names their folder.
if folder := os.environ.get("SKAE_DATA"):
    published = np.load(pathlib.Path(folder, "donut_corr2.npy"))
    X, y = published[:, :4], published[:, 4].astype(int)
else:
    X, y = make_donuts(random_state=0)
X = MinMaxScaler().fit_transform(X)
rule = AutoencoderTransformer(
    2,
    hidden_layer_sizes=(),
    code_activation="logistic",
    tied_weights=True,
    init="glorot",
    solver="sgd",
    learning_rate="constant",
    learning_rate_init=1e-5 * len(X),
    momentum=0.9,
    nesterovs_momentum=False,
    batch_size=len(X),
    max_iter=5000,
    tol=0,
    n_iter_no_change=np.inf,
)
seeds = range(10)


def cost(model):
    """Half the mean squared error of an entry."""
    return model.reconstruction_error(X).mean() / X.shape[1] / 2


def fits(model):
    """Costs of fits from different random weights, and seconds of one."""
    begin = time.perf_counter()
    costs = [cost(model.set_params(random_state=seed).fit(X)) for seed in seeds]
    return costs, (time.perf_counter() - begin) / len(costs)


costs, seconds = fits(rule)
print(f"published 0.000948; here {min(costs):.6f} to {max(costs):.6f}")

# %%
# The published figure
# --------------------
#
# What comes in, its code, and what comes out; the cost falls below the published one
# because here the tied weights have the whole of their gradient: the published rule
# leaves out the decoder's half.
figure, axes = plt.subplots(2, 2, figsize=(8, 7), layout="constrained")
decoded = rule.inverse_transform(rule.transform(X))
for ax, rows, title in ((axes[0, 0], X, "data"), (axes[1, 0], decoded, "decoded")):
    ax.scatter(*rows[:, :2].T, c=np.array(["C0", "C1"])[y], s=2, alpha=0.5)
    ax.set(xlabel="feature 0", ylabel="feature 1", title=title)
LatentSpaceDisplay.from_estimator(rule, X, y, ax=axes[0, 1], s=2, alpha=0.5)
axes[0, 1].set_title("code")
# The objective is summed over the four features.
axes[1, 1].semilogy(np.array(rule.loss_curve_) / X.shape[1])
axes[1, 1].set(xlabel="epoch", ylabel="cost", title="cost against epoch")
plt.show()

# %%
# Our own settings
# ----------------
#
# The same tied network and as many steps of Adam, whose rate falls to zero.
recommended = AutoencoderTransformer(**rule.get_params()).set_params(
    solver="adam", learning_rate="cosine", learning_rate_init=0.03
)
recommended_costs, _ = fits(recommended)
print(f"Adam: {min(recommended_costs):.6f} to {max(recommended_costs):.6f}")

figure, ax = plt.subplots(figsize=(6, 2.2), layout="constrained")
for height, (name, values) in enumerate(
    {"Adam": recommended_costs, "the rule": costs}.items()
):
    ax.scatter(values, np.full(len(values), height), label=name, alpha=0.6)
ax.axvline(0.000948, color="k", linestyle=":", label="published")
ax.set(xscale="log", yticks=[0, 1], yticklabels=["Adam", "the rule"], ylim=(-0.5, 1.5))
ax.set_xlabel("cost of ten random starts (dotted: published)")
plt.show()
