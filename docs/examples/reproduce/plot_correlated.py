"""
==============================
32-2-32: one degree of freedom
==============================

A row holds sin² of 32 phases that follow from one random start: however many features,
there is one number to know. The error of a code of two no longer grows with the number
of features as that of independent ones does.
"""
# sphinx_gallery_thumbnail_number = 1

# %%
# Rows of a wave
# --------------
import time

import matplotlib.pyplot as plt
import numpy as np

from skae import AutoencoderTransformer
from skae.datasets import make_sinusoids, make_uniform

n_rows, n_test = 20_000, 2_000
waves = make_sinusoids(n_rows, 32, random_state=0).astype(np.float32)
noise = make_uniform(n_rows, 32, random_state=0).astype(np.float32)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
for ax, rows, title in ((axes[0], waves, "sinusoids"), (axes[1], noise, "uniform")):
    ax.plot(rows[:4].T)
    ax.set(xlabel="feature", title=title)
axes[0].set_ylabel("four rows")
plt.show()


def mean_error(X, hidden_layer_sizes=(), n_components=2):
    """Mean summed absolute error of held-out rows, and the seconds of a fit."""
    model = AutoencoderTransformer(
        n_components,
        hidden_layer_sizes=hidden_layer_sizes,
        activation="logistic",
        code_activation="logistic",
        loss="log_loss",
        learning_rate="cosine",
        learning_rate_init=0.01,
        batch_size=100,
        max_iter=30,
        random_state=0,
    )
    begin = time.perf_counter()
    model.fit(X[n_test:])
    seconds = time.perf_counter() - begin
    return model.reconstruction_error(
        X[:n_test], metric="absolute_error"
    ).mean(), seconds


# %%
# Error against the number of features
# ------------------------------------
n_features = [3, 4, 8, 16, 32]
of_waves = [
    mean_error(make_sinusoids(n_rows, n, random_state=0).astype(np.float32))[0]
    for n in n_features
]
of_noise = [mean_error(noise[:, :n])[0] for n in n_features]
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(n_features, of_noise, "s-", label="uniform")
ax.plot(n_features, of_waves, "o-", label="sinusoids")
ax.set(xlabel="features", ylabel="summed absolute error a row", ylim=(0, None))
ax.legend()
plt.show()

# %%
# Error against the number of layers
# ----------------------------------
#
# One number is enough only for a curved code: the waves are a circle. A code of one
# unit needs hidden layers to go round it.
networks = {
    "32-1-32": (),
    "one hidden layer": (16,),
    "two": (16, 8),
    "three": (16, 8, 4),
}
by_depth = {
    size: [mean_error(waves, hidden, size) for hidden in networks.values()]
    for size in (1, 2)
}
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for size, results in by_depth.items():
    ax.plot([error for error, _ in results], "o-", label=f"code of {size}")
ax.set_xticks(range(len(networks)), ["none", "one", "two", "three"])
ax.set(xlabel="hidden layers on either side", ylim=(0, None))
ax.set_ylabel("summed absolute error a row")
ax.legend()
plt.show()
for size, results in by_depth.items():
    print(size, [f"{error:.3f}" for error, _ in results])
seconds = by_depth[2][-1][1]
