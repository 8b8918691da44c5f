"""
==========================================
Use a code as the features of a classifier
==========================================

A classifier of few features, in a pipeline: the code of an autoencoder takes the place
of principal components, with one changed word.
"""

# %%
# Digits in a few numbers
# -----------------------
#
# The autoencoder sees no labels. With codes of few numbers, a linear classifier does
# better on them than on as many principal components.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.inspection import LatentSpaceDisplay

X, y = load_digits(return_X_y=True)
X = X / 16


def autoencoder(n_components):
    return AutoencoderTransformer(
        n_components,
        loss="log_loss",
        max_iter=60,
        learning_rate="cosine",
        learning_rate_init=0.003,
        random_state=0,
    )


def accuracy(reduce):
    """Cross-validated, with all steps fitted on the training rows alone."""
    classify = LogisticRegression(max_iter=1000)
    return cross_val_score(
        make_pipeline(reduce, StandardScaler(), classify), X, y, cv=3
    )


sizes = [2, 5, 10]
scores = {
    "PCA": [accuracy(PCA(size, random_state=0)) for size in sizes],
    "autoencoder": [accuracy(autoencoder(size)) for size in sizes],
}
for name, by_size in scores.items():
    print(name, {s: f"{np.mean(a):.3f}" for s, a in zip(sizes, by_size, strict=True)})

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, by_size in scores.items():
    mean, deviation = np.mean(by_size, axis=1), np.std(by_size, axis=1)
    ax.errorbar(sizes, mean, deviation, marker="o", capsize=3, label=name)
ax.set(xlabel="n_components", ylabel="accuracy of logistic regression", xticks=sizes)
ax.legend()
plt.show()

# %%
# The code of two
# ---------------
figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
for ax, model in zip(axes, (PCA(2, random_state=0), autoencoder(2)), strict=True):
    LatentSpaceDisplay.from_estimator(model.fit(X), X, y, ax=ax, s=6)
    ax.set_title(type(model).__name__)
plt.show()
