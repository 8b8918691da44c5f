"""What has to be set before SciPy is imported."""

import os

# Without it scikit-learn's checks of the array API are skipped.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
