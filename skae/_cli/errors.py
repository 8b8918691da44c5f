"""The error of the command line's job that users can mend."""


class DemoError(Exception):
    """An error that the user can fix; its message is one line."""
