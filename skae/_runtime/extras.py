"""Packages that skae works without, and that extras of its installation bring."""

from importlib import import_module


def check_installed(caller, *packages, extra=None):
    """Raise ImportError, with the command that mends it, if a package is missing.

    Parameters
    ----------
    caller : str
        What needs the packages, in the message.

    *packages : str
        Names of modules, of which the first part is the package's.

    extra : str, default=None
        The extra of skae that brings them; None where there is none.
    """
    for name in packages:
        try:
            import_module(name)
        except ImportError as error:
            package = name.partition(".")[0]
            what = package if extra is None else f"'skae[{extra}]'"
            raise ImportError(
                f"{caller} needs {package}: pip install {what}"
            ) from error
