"""Files of estimators: how an estimator is described, and the format of the file.

It may import the estimators and everything below them. Only `skae.io` and
`skae.callbacks` may import it.
"""
