"""Training: settings, the epoch loop, L-BFGS, pretraining, choice of weights, reports.

It may import the folders `_compiled`, `_data`, `_runtime` and `_model`, and the modules
`_names` and `_sklearn`. It knows no estimator: the estimators, and everything above
them, may import it.
"""
