"""The job of ``python -m skae``: read data, fit, and write a table and a picture.

It may import the estimators, `skae.inspection` and `skae.metrics`, and everything below
them. Only `skae.__main__` may import it.
"""
