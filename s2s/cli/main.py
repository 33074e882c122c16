"""The `s2s` command: one verb for each job.

Exit codes: 0 done, 1 failed, 2 bad input, 3 stopped but resumable.
"""

import os
import sys

from s2s import __version__, extras
from s2s.cli.arguments import parse
from s2s.cli.environment import set_defaults
from s2s.cli.help import overview
from s2s.cli.job_paths import is_job, require_absolute_paths
from s2s.cli.variables import naming_variables
from s2s.cli.verbs import VERBS
from s2s.console import printable
from s2s.errors import BadInput, Failed, Stopped
from s2s.locations import with_locations
from s2s.suggestions import did_you_mean


def main(arguments: list[str] | None = None) -> int:
    """Run `s2s VERB …` and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in ("-h", "--help"):
        return _print(overview(VERBS), 0 if arguments else 2)
    if arguments[0] in ("-V", "--version"):
        return _print(f"s2s {__version__}", 0)
    if arguments[0] not in VERBS:
        return _complain(f"unknown verb {arguments[0]!r}{did_you_mean(arguments[0], VERBS)}", 2)
    return run(arguments[0], arguments[1:])


def run(verb: str, arguments: list[str] | None = None) -> int:
    """Run one verb on its command-line arguments and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    set_defaults()
    try:
        parsed = parse(verb, VERBS[verb], arguments)
        if is_job():
            require_absolute_paths(parsed)
        parsed.run()
        sys.stdout.flush()  # here an error can still be handled
    except BadInput as error:
        message = naming_variables(with_locations(str(error)), VERBS[verb], arguments)
        return _complain(message, error.exit_code)
    except (Failed, Stopped) as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", 1)
    except (RuntimeError, MemoryError) as error:
        from s2s.devices import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _complain("out of memory; a smaller --beam needs less, and so do shorter lines", 1)
    except ModuleNotFoundError as error:
        if (line := extras.advice(verb, error)) is None:
            raise
        return _complain(line, 2)
    except BrokenPipeError:
        return _end_without_reader()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", 2)
    return 0


def _print(text: str, code: int) -> int:
    """Print text, and return the exit code."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        return _end_without_reader()
    return code


def _end_without_reader() -> int:
    """Return the exit code for output whose reader has gone, as `head` does."""
    # Python must not try to flush again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _complain(message: str, code: int) -> int:
    """Print an error as one line, whatever a library put into its message; return the exit code."""
    line = with_locations(" ".join(message.split()))
    print(f"s2s: {printable(line)}", file=sys.stderr)
    return code
