"""
===========================================
What each number of a code does
===========================================

An autoencoder makes a few numbers of each sample. To see what one of them stands for,
let it run through the values that it takes, and decode.
"""

# %%
# Digits
# ------
#
# In each row one number of the code takes the quantiles of all digits, from 5 % to
# 95 %, and the others stay at the code of one digit, a three.
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits, load_wine

from skae import AutoencoderTransformer
from skae.inspection import (
    ComponentsDisplay,
    LatentSpaceDisplay,
    LatentWalkDisplay,
    ReconstructionDisplay,
)

digits = load_digits()
X = digits.data / 16
autoencoder = AutoencoderTransformer(
    4, loss="log_loss", max_iter=60, learning_rate_init=0.003, random_state=0
).fit(X)
LatentWalkDisplay.from_estimator(autoencoder, X, sample=3)
plt.show()

# %%
# Near one code the change is a derivative, which `decoder_jacobian` gives exactly: how
# much each pixel gains or loses per unit of each number.
print(autoencoder.decoder_jacobian(autoencoder.transform(X[3:4])).shape)
ComponentsDisplay.from_estimator(autoencoder, source="decoder_jacobian")
plt.show()

# %%
# A table
# -------
#
# In a table each feature is a row. The colors are standard deviations from the mean of
# the column, and the numbers are what is decoded; a category has a row for each level,
# with its probability. The first number of the code leads from Barbera to Barolo, with
# more flavanoids and a brighter hue, the second from Grignolino to wines with more
# alcohol and a deeper color.
wine = load_wine(as_frame=True)
grapes = pd.Series(["Barolo", "Grignolino", "Barbera"])
columns = ["alcohol", "malic_acid", "flavanoids", "color_intensity", "hue", "proline"]
table = wine.data[columns].assign(grape=grapes[wine.target].to_numpy())
of_table = AutoencoderTransformer(2, random_state=0).fit(table)
LatentWalkDisplay.from_estimator(of_table, table)
plt.show()

# %%
# The codes of all wines, and the wines that come back worst: a circle is a measurement,
# and a dot is what is decoded from two numbers.
LatentSpaceDisplay.from_estimator(of_table, table, "grape")
ReconstructionDisplay.from_estimator(of_table, table, which="worst", n_images=4)
plt.show()
