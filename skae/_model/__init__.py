"""The network: its parameters, their initialization, PCA, and what it computes.

It may import `_compiled`, `_data` and `_runtime`. The folder `_training`, the
estimators, and everything above them may import it.
"""
