"""What every job does: run a verb, where its node has what s2s needs."""

import sys


def run(verb: str) -> int:
    """Run a verb on the command line of this process, and return its exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 # an image may have any
        return _refuse(f"Python {sys.version.split()[0]} on this node, and s2s needs 3.11 or newer")
    from s2s import extras

    if missing := extras.missing():
        return _refuse(
            f"{sys.executable} on this node lacks {', '.join(missing)}; the image must bring them: "
            f"pip install '{extras.DISTRIBUTION}[all]'"
        )
    from s2s.cli.main import run

    return run(verb)


def _refuse(reason: str) -> int:
    print(f"s2s: {reason}", file=sys.stderr)
    return 2
