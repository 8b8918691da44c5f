"""Detection of outliers: the estimator, and the score that it is based on.

It may import the autoencoders and everything below them.
"""
