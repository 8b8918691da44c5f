"""
============================
32-2-32: nothing to compress
============================

A code is shorter than the data because features tell of one another. These do not: 32
independent uniform numbers a row. Whatever two numbers of a code say of two features,
of the other thirty the best guess remains one half.
"""

# %%
# 32-2-32
# -------
#
# Logistic units, cross-entropy, Adam, batches of 100, ten epochs; a tenth of the rows
# held out. (A million rows where ``SKAE_DATA`` is set; otherwise fewer, more often.)
import os
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer
from skae.datasets import make_uniform
from skae.inspection import ReconstructionErrorDisplay

# The rule says when training ends, not a plateau.
warnings.simplefilter("ignore", ConvergenceWarning)

n_rows = 1_000_000 if os.environ.get("SKAE_DATA") else 20_000
n_epochs = 10 if n_rows == 1_000_000 else 100
X = make_uniform(n_rows, 32, random_state=0).astype(np.float32)
n_train = n_rows * 9 // 10
X_train, X_test = X[:n_train], X[n_train:]


def autoencoder(hidden_layer_sizes=(), n_components=2):
    return AutoencoderTransformer(
        n_components,
        hidden_layer_sizes=hidden_layer_sizes,
        activation="logistic",
        code_activation="logistic",
        loss="log_loss",
        learning_rate="constant",
        batch_size=100,
        max_iter=n_epochs,
        tol=0,
        n_iter_no_change=np.inf,
        random_state=0,
    )


begin = time.perf_counter()
shallow = autoencoder().fit(X_train)
seconds = time.perf_counter() - begin
print(f"{n_epochs} epochs of {n_train} rows in {seconds:.1f} s")

# %%
# And deeper
# ----------
#
# 32-16-8-4-2-4-8-16-32 does no better. For a constant guess of one half, the sum of 32
# absolute errors, each uniform on [0, 0.5), has the mean 8 and the standard deviation
# 0.82; with two features known exactly, 7.5 and 0.79.
deep = autoencoder((16, 8, 4)).fit(X_train)
errors = {
    name: model.reconstruction_error(X_test, metric="absolute_error")
    for name, model in {"32-2-32": shallow, "nine layers": deep}.items()
}
for name, values in errors.items():
    print(f"{name}: {values.mean():.3f} ± {values.std():.3f}")
ReconstructionErrorDisplay.from_estimator(
    {"32-2-32": shallow, "nine layers": deep}, X_test, metric="absolute_error"
)
plt.show()

# %%
# Error against the number of features
# ------------------------------------
#
# At best, two of them pass through the code, and a quarter is lost of each other.
n_features = [3, 4, 8, 16, 32]
means = [
    autoencoder()
    .fit(X_train[:, :n])
    .reconstruction_error(X_test[:, :n], metric="absolute_error")
    .mean()
    for n in n_features
]
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(n_features, means, "o-", label="32-2-32 and the like")
ax.plot(n_features, np.array(n_features) / 4, "k:", label="guessing one half")
ax.plot(n_features, (np.array(n_features) - 2) / 4, "k--", label="two features known")
ax.set(xlabel="features", ylabel="summed absolute error a row")
ax.legend()
plt.show()
