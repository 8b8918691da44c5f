"""Files of estimators: what an estimator is described by, and the format that holds it.

It may import the estimators and everything below them. Only `skae.io` and
`skae.callbacks` may import it.
"""
