"""
==============================
Reduce a table with categories
==============================

A data frame with text, numbers and gaps becomes a few numbers for each sample, without
an encoder, a scaler or an imputer before. A classifier works on these codes, and
`inverse_transform` gives the table back.
"""

# %%
# People of a census
# ------------------
#
# The table is made: people whose schooling, work and family depend on their age and on
# chance. If the environment variable ``SKAE_DATA`` names a folder with
# ``adult.csv.gz``, it is Adult, 32,561 people of the US census of 1994. Whether someone
# has a high income is not in the table, but is to be predicted.
import os
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderTransformer


def make_people(n_samples=1500):
    """A table of people with gaps, and who has a high income."""
    rng = np.random.default_rng(0)

    def level(values, limits, names):
        """Names of the intervals of values, after a little noise."""
        values = values + 0.15 * np.std(values) * rng.standard_normal(n_samples)
        return np.array(names.split(), dtype=object)[np.digitize(values, limits)]

    age = np.rint(17 + 60 * rng.beta(1.5, 2.2, n_samples))
    schooling = np.clip(rng.normal(11, 3, n_samples), 1, 18)
    is_married = rng.random(n_samples) < 0.75 / (1 + np.exp((27 - age) / 3))
    sex = rng.choice(np.array(["Female", "Male"], dtype=object), n_samples)
    single = level(age, [32, 62], "Never-married Divorced Widowed")
    spouse = np.where(sex == "Male", "Husband", "Wife")
    alone = level(age, [24], "Own-child Not-in-family")
    employed = schooling + 4 * (sex == "Male") * (schooling < 12)
    jobs = "Cleaning Service Sales Clerical Craft Professional"
    schools = "Primary 9th 11th HS-grad College Bachelors Masters"
    hours = 42 + 0.5 * (schooling - 11) - 0.02 * (age - 42) ** 2
    people = pd.DataFrame(
        {
            "age": age,
            "education": level(schooling, [7, 9, 11, 13, 15, 17], schools),
            "education_num": np.rint(schooling),
            "marital_status": np.where(is_married, "Married", single),
            "relationship": np.where(is_married, spouse, alone),
            "occupation": level(employed, [9, 11, 12.5, 14, 15.5], jobs),
            "sex": sex,
            "hours_per_week": np.rint(hours + rng.normal(0, 4, n_samples)).clip(4),
        }
    )
    chance = (schooling - 12) / 2 + 2 * is_married - ((age - 48) / 12) ** 2 - 0.5
    is_high = rng.random(n_samples) < 1 / (1 + np.exp(-chance))
    return people.mask(rng.random(people.shape) < 0.05), is_high


if folder := os.environ.get("SKAE_DATA"):
    table = pd.read_csv(pathlib.Path(folder, "adult.csv.gz"))
    is_high = (table.pop("income") == ">50K").to_numpy()
else:
    table, is_high = make_people()
numbers = table.select_dtypes("number").columns
categories = table.columns.difference(numbers, sort=False)
parts = train_test_split(table, is_high, test_size=0.3, random_state=0)
train, test, high_train, high_test = parts
train.head()

# %%
# Codes before a classifier
# -------------------------
#
# `AutoencoderTransformer` takes the table as it is. PCA needs numbers: a column for
# each level, and standardized numbers with their mean in gaps. The area under the ROC
# curve is that of a logistic regression, for people that nothing was fitted to.
#
# A code is made to reconstruct the table, not to be read by a linear classifier, which
# may make as much of as many principal components. For features take all layers of the
# encoder, by `get_codes`: there it finds nearly all that is in the table.
one_hot = make_column_transformer(
    (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
    (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
)
columns, columns_test = one_hot.fit_transform(train), one_hot.transform(test)
print(f"{table.shape[1]} columns, one-hot {columns.shape[1]}")


def area(features, features_test):
    """Area under the ROC curve of a logistic regression."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(features, high_train)
    return roc_auc_score(high_test, classifier.decision_function(features_test))


sizes = [2, 4, 8]
codes = [AutoencoderTransformer(size, random_state=0).fit(train) for size in sizes]
components = [PCA(size, random_state=0).fit(columns) for size in sizes]
areas = {
    "all layers of the encoder": [
        area(model.get_codes(train), model.get_codes(test)) for model in codes
    ],
    "code": [area(model.transform(train), model.transform(test)) for model in codes],
    "principal components": [
        area(pca.transform(columns), pca.transform(columns_test)) for pca in components
    ],
}
area_of_all = area(columns, columns_test)

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, by_size in areas.items():
    ax.plot(sizes, by_size, marker="o", label=name)
ax.axhline(area_of_all, color="gray", linestyle="--", label="all one-hot columns")
ax.set(xlabel="n_components", ylabel="area under the ROC curve", xticks=sizes)
ax.legend()
plt.show()

# %%
# Levels decoded
# --------------
#
# The share of people whose level comes back from a code of four numbers, for each
# column. Of PCA's reconstruction the largest entry of a column's levels is taken;
# "most frequent" is what knowing nothing of a person comes to. Gaps do not count.
at = sizes.index(4)
restored = codes[at].inverse_transform(codes[at].transform(test)).set_index(test.index)
by_pca = components[at].inverse_transform(components[at].transform(columns_test))
encoder = one_hot.named_transformers_["onehotencoder"]
entries = np.split(
    by_pca[:, len(numbers) :], np.cumsum([len(c) for c in encoder.categories_])[:-1], 1
)
accuracies = {"code of 4": [], "4 principal components": [], "most frequent": []}
for name, levels, of_levels in zip(
    categories, encoder.categories_, entries, strict=True
):
    found = (
        restored[name],
        levels[of_levels.argmax(axis=1)],
        train[name].mode()[0],
    )
    there = test[name].notna()
    for shares, decoded in zip(accuracies.values(), found, strict=True):
        shares.append((test[name] == decoded)[there].mean())
for name, shares in accuracies.items():
    print(f"{name:24}{np.mean(shares):.3f}")

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
order = np.argsort(accuracies["code of 4"])
for (name, shares), marker in zip(accuracies.items(), "oo|", strict=True):
    color = "gray" if marker == "|" else None
    ax.plot(np.array(shares)[order], range(len(order)), marker, label=name, color=color)
ax.set_yticks(range(len(order)), categories[order].str.replace("_", " "))
ax.set(xlabel="share of levels that come back", xlim=(0, 1.02))
ax.grid(axis="y", alpha=0.3)
figure.legend(loc="outside upper center", ncols=3)
plt.show()

# %%
# Four numbers for each person, and the table that comes back, in which no entry is
# missing:
restored.round(0).head()

# %%
# The same people, as they are:
test.head()
