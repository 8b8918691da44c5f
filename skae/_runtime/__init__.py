"""The Python code around the kernels: threads, warm-up, SciPy, machines, extras.

It may import `_compiled`. The folders `_data`, `_model`, `_training`, the estimators,
and everything above them may import it.
"""
