"""The code that Numba compiles, and how it is compiled, cached and called.

Only this folder holds compiled code: the names under which machine code is cached carry
a digest of its modules. It imports nothing else of skae, and every other part of skae
may import it.
"""
