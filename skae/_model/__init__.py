"""The network: parameters, initialization, PCA, buffers, and what it computes.

It may import `_compiled`, `_runtime` and `_data`. The folder `_training`, the
estimators, and everything above them may import it.
"""
