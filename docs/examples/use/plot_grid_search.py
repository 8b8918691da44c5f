"""
===========================
Choose the size of the code
===========================

`n_components` is searched as that of PCA is, in the same grid: a scorer that is defined
for any transformer with an ``inverse_transform`` judges both.
"""

# %%
# One grid for both
# -----------------
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import AutoencoderTransformer
from skae.inspection import compare_with_pca
from skae.metrics import reconstruction_r2

X, _ = load_digits(return_X_y=True)
autoencoder = AutoencoderTransformer(
    max_iter=60, learning_rate="cosine", learning_rate_init=0.003, random_state=0
)
search = GridSearchCV(
    Pipeline([("scale", MinMaxScaler()), ("reduce", autoencoder)]),
    {
        "reduce": [PCA(random_state=0), autoencoder],
        "reduce__n_components": [1, 2, 5, 10, 20],
    },
    scoring=reconstruction_r2,
    cv=KFold(3, shuffle=True, random_state=0),
    refit=False,
).fit(X)

# %%
# The results
# -----------
results = pd.DataFrame(search.cv_results_)
results["estimator"] = [type(reduce).__name__ for reduce in results["param_reduce"]]
table = results.pivot(
    index="param_reduce__n_components", columns="estimator", values="mean_test_score"
)
table = table.astype(float).round(3).rename_axis("n_components")
print(table.to_string())
ax = table.plot(marker="o", figsize=(6, 3.5), ylabel="held-out R²", logx=True)
ax.set_xticks(table.index, table.index)
plt.tight_layout()
plt.show()

# %%
# Or in one call
# --------------
#
# :func:`~skae.inspection.compare_with_pca` fits both on the same splits, and prints
# what the nonlinearity is worth.
display = compare_with_pca(X / 16, [1, 2, 5, 10], cv=3, estimator=autoencoder)
print(display)
display.plot()
plt.show()
