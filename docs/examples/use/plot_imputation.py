"""
=========================================
Impute missing values before a classifier
=========================================

:class:`~skae.AutoencoderImputer` beside scikit-learn's imputers: errors of the imputed
values, and what they do to a model behind them.
"""

# %%
# Four in ten pixels of handwritten digits are removed at random, from training and from
# test samples.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from skae import AutoencoderImputer

X, y = load_digits(return_X_y=True)
X = X / 16
share = 0.4
incomplete = np.where(np.random.default_rng(0).random(X.shape) < share, np.nan, X)
parts = train_test_split(X, incomplete, y, random_state=0)
X_train, X_test, train, test, y_train, y_test = parts

imputers = {
    "mean": SimpleImputer(),
    "nearest neighbors": KNNImputer(),
    "regressions": IterativeImputer(max_iter=3, n_nearest_features=20, random_state=0),
    "AutoencoderImputer": AutoencoderImputer(random_state=0),
}

# %%
# Each imputer is fitted to the training samples, and fills in those and the test
# samples. Errors are root mean squares over the removed pixels of the test samples. A
# classifier that is trained on the imputed training samples is then scored on the
# imputed test samples; for comparison, one is trained and scored where nothing is
# missing.
errors, accuracies = {}, {}
missing = np.isnan(test)
for name, imputer in imputers.items():
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        imputer.fit(train)
    imputed = imputer.transform(test)
    errors[name] = np.sqrt(np.mean((imputed - X_test)[missing] ** 2))
    classifier = LogisticRegression(max_iter=1000)
    classifier.fit(imputer.transform(train), y_train)
    accuracies[name] = classifier.score(imputed, y_test)
classifier = LogisticRegression(max_iter=1000).fit(X_train, y_train)
accuracies["(nothing missing)"] = classifier.score(X_test, y_test)

figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
panels = [("error of imputed pixels", errors), ("classifier's accuracy", accuracies)]
for ax, (title, values) in zip(axes, panels, strict=True):
    bars = ax.barh([*values], [*values.values()])
    ax.bar_label(bars, fmt="{:.3f}", padding=3)
    ax.set(title=title, xlim=(0, 1.2 * max(values.values())))
    ax.invert_yaxis()
plt.show()

# %%
# How uncertain imputed values are
# --------------------------------
#
# With `sample_posterior`, values are drawn from their distribution given the rest of
# the sample: where the draws of an image differ, what was there is uncertain. The
# imputer need not be fitted again for that.
imputer = imputers["AutoencoderImputer"].set_params(sample_posterior=True)
draws = [imputer.set_params(random_state=i).transform(test[:1]) for i in range(30)]
pictures = {
    "original": X_test[0],
    "seen": test[0],
    "draw": draws[0][0],
    "another": draws[1][0],
    "deviation of 30": np.std(draws, axis=0)[0],
}
figure, axes = plt.subplots(1, 5, figsize=(9, 2.2), layout="constrained")
colors = plt.get_cmap("gray_r").with_extremes(bad="tab:orange")
for ax, (name, image) in zip(axes, pictures.items(), strict=True):
    largest = image.max() if name.startswith("deviation") else 1
    ax.imshow(image.reshape(8, 8), cmap=colors, vmin=0, vmax=largest)
    ax.set(title=name, xticks=[], yticks=[])
plt.show()
