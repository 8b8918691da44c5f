"""Optional packages, which the extras of skae install."""

from importlib import import_module


def check_installed(caller: str, *packages: str, extra: str | None = None) -> None:
    """Raise ImportError, with the command that installs it, if a package is missing.

    Parameters
    ----------
    caller : str
        What needs the packages, for the message.

    *packages : str
        Names of modules; the first part of each is the package's name.

    extra : str, default=None
        The extra of skae that installs them; None if there is none.
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
