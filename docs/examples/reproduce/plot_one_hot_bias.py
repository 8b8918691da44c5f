"""
===============================
8-3-8 with the bias as an input
===============================

Written from scratch, the encoder problem often has no biases: a ninth column of ones
does their work in the hidden layer, and is reconstructed with the others. Plain
gradient descent, without momentum, finds a code of three bits.
"""

# %%
# Nine columns
# ------------
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer
from skae.datasets import make_one_hot
from skae.metrics import argmax_accuracy

# The rule says when training ends, not a plateau.
warnings.simplefilter("ignore", ConvergenceWarning)

X = np.column_stack([make_one_hot(8), np.ones(8)])
model = AutoencoderTransformer(
    3,
    hidden_layer_sizes=(),
    code_activation="logistic",
    output_activation="logistic",
    init="normal",
    solver="sgd",
    momentum=0,
    learning_rate="constant",
    learning_rate_init=5.0,
    batch_size=8,
    max_iter=10_000,
    tol=0,
    n_iter_no_change=np.inf,
    random_state=9,
)
begin = time.perf_counter()
code = model.fit_transform(X)
seconds = time.perf_counter() - begin
reconstructed = model.inverse_transform(code)
accuracy = argmax_accuracy(X[:, :8], reconstructed[:, :8])
error = np.mean((X - reconstructed) ** 2)
print(f"accuracy {accuracy:.1f}, mean squared error {error:.6f}, {seconds:.2f} s")

# %%
# The table of codes
# ------------------
#
# Each symbol has its own three bits. (Not from every start: of 20, five end with two
# symbols that share a corner, and differ by how near they come to it.)
bits = np.round(code).astype(int)
for symbol, (values, rounded) in enumerate(zip(code, bits, strict=True)):
    print(symbol, values.round(2), "".join(map(str, rounded)))
n_distinct = len(np.unique(bits, axis=0))
print(f"{n_distinct} distinct codes of three bits")

figure, axes = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
for ax, table, title, text in (
    (axes[0], code, "code", "{:.2f}"),
    (axes[1], bits, "rounded to three bits", "{:d}"),
):
    picture = ax.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        color = "white" if value > 0.6 else "black"
        ax.text(column, row, text.format(value), ha="center", va="center", color=color)
    ax.set(xticks=range(3), yticks=range(8), xlabel="unit", title=title)
axes[0].set_ylabel("symbol")
plt.show()

# %%
# The reconstruction
# ------------------
figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
picture = ax.imshow(reconstructed, cmap="Blues", vmin=0, vmax=1)
ax.set(xlabel="column (8: the ones)", ylabel="symbol", xticks=range(9))
figure.colorbar(picture, ax=ax, label="reconstructed")
plt.show()
