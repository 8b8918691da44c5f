"""What several test modules share; no test module imports from another.

Whatever is specific to one kind of test stays with it. These modules know the package
and each other, never a test module.
"""
