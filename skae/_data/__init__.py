"""Samples as kernels read them: in memory or as a stream, held out, weighted, measured.

It may import `_compiled` and `_runtime`. Everything that works on data may import it:
the folders `_model` and `_training`, the estimators, and the public modules.
"""
