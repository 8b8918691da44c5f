"""Base classes of all autoencoders.

They validate data, ask `skae._training` for a plan, run it and store the result, and
use `skae._model` for inference. The estimators and `skae.dask` import this package,
which imports neither.
"""
