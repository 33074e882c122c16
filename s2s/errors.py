"""What can go wrong for a user, each with the exit code of the `s2s` command it leads to."""


class BadInput(Exception):
    """A file, row, option, request or directory that cannot be used as it is."""

    exit_code = 2


class Failed(Exception):
    """Work that began on good input and could not be finished."""

    exit_code = 1


class Stopped(Exception):
    """Work that was interrupted, and resumes when the same command is run again."""

    exit_code = 3


def last_line(error: BaseException) -> str:
    """Return what happened, without the traceback that Ray quotes before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
