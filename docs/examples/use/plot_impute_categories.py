"""
====================================
Fill gaps in a table with categories
====================================

`AutoencoderImputer` takes a data frame with text and numbers in which entries are
missing, and returns the same frame with all gaps filled, categories with categories.
Here it is compared with the most frequent level, and with forests of trees.
"""

# %%
# A fifth of a table is removed
# -----------------------------
#
# Of 178 wines the table has six measurements in numbers, three in words, and the grape.
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.preprocessing import OrdinalEncoder

from skae import AutoencoderImputer

wine = load_wine(as_frame=True)


def in_words(measurement, words):
    """Thirds of the wines, from the lowest to the highest values."""
    return pd.qcut(wine.data[measurement], 3, labels=words).astype(object)


measurements = ["alcohol", "flavanoids", "hue", "proline", "ash", "total_phenols"]
table = wine.data[measurements].assign(
    grape=wine.target.map({0: "Barolo", 1: "Grignolino", 2: "Barbera"}),
    color=in_words("color_intensity", ["pale", "medium", "deep"]),
    acid=in_words("malic_acid", ["low", "medium", "high"]),
    protein=in_words("od280/od315_of_diluted_wines", ["low", "medium", "high"]),
)
numbers = table.select_dtypes("number").columns
categories = table.columns.difference(numbers, sort=False)
removed = np.random.default_rng(0).random(table.shape) < 0.2
incomplete = table.mask(removed)
incomplete.head()

# %%
# One call fills it. No encoder comes before, and nothing has to be decoded:
begin = time.perf_counter()
imputer = AutoencoderImputer(random_state=0)
imputed = imputer.fit_transform(incomplete)
print(f"{time.perf_counter() - begin:.1f} s")
imputed.head()

# %%
# Beside others
# -------------
#
# `SimpleImputer` puts the most frequent level everywhere. Regressions by forests, known
# as missForest, need numbers: levels in the order of the alphabet, to which predictions
# are rounded.
most_frequent = SimpleImputer(strategy="most_frequent").set_output(transform="pandas")
encoder = OrdinalEncoder().set_output(transform="pandas")
forests = IterativeImputer(
    RandomForestRegressor(20, max_features=0.5, min_samples_leaf=3, random_state=0),
    max_iter=2,
    random_state=0,
).set_output(transform="pandas")
begin = time.perf_counter()
levels = encoder.fit_transform(incomplete[categories])
with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
    by_forests = forests.fit_transform(incomplete[numbers].join(levels))
for column, levels in zip(categories, encoder.categories_, strict=True):
    by_forests[column] = levels[by_forests[column].round().astype(int)]
print(f"forests: {time.perf_counter() - begin:.1f} s")

tables = {
    "AutoencoderImputer": imputed,
    "forests": by_forests,
    "most frequent": most_frequent.fit_transform(incomplete),
}
accuracies = {name: [] for name in tables}
for column in categories:
    judged = removed[:, table.columns.get_loc(column)]
    for name, filled in tables.items():
        accuracies[name].append((filled[column] == table[column])[judged].mean())
for name, shares in accuracies.items():
    print(f"{name:20}{np.mean(shares):.3f}")

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
order = np.argsort(accuracies["AutoencoderImputer"])
for (name, shares), marker in zip(accuracies.items(), "oo|", strict=True):
    color = "gray" if marker == "|" else None
    ax.plot(np.array(shares)[order], range(len(order)), marker, label=name, color=color)
ax.set_yticks(range(len(order)), categories[order])
ax.set(xlabel="share of removed levels that are imputed right", xlim=(0, 1.02))
ax.grid(axis="y", alpha=0.3)
figure.legend(loc="outside upper center", ncols=3)
plt.show()

# %%
# How certain a level is
# ----------------------
#
# With `sample_posterior`, levels are drawn by their probabilities given the rest of the
# wine. Where all draws agree with the imputed level, it is certain. Of the levels
# with which a given share of the draws agree, about that share should be right. (Twenty
# draws tell little where few agree.)
imputer.set_params(sample_posterior=True)
draws = [
    imputer.set_params(random_state=seed).transform(incomplete) for seed in range(20)
]
agreeing, is_right = [], []
for column in categories:
    judged = removed[:, table.columns.get_loc(column)]
    likely = imputed[column]
    agree = np.mean([draw[column] == likely for draw in draws], axis=0)
    agreeing.append(agree[judged])
    is_right.append((likely == table[column])[judged])
agreeing, is_right = np.concatenate(agreeing), np.concatenate(is_right)
bins = np.digitize(agreeing, [0.3, 0.5, 0.7, 0.9])
shares = [(agreeing[bins == b].mean(), is_right[bins == b].mean()) for b in range(5)]

figure, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
ax.plot([0, 1], [0, 1], color="gray", linestyle="--")
ax.plot(*np.transpose(shares), marker="o")
ax.set(xlabel="share of draws that agree", ylabel="share of levels that are right")
plt.show()
