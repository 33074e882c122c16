"""The `s2s` command: one verb for each job.

Exit codes: 0 done, 1 failed, 2 bad input, 3 stopped but resumable.
"""

import io
import os
import re
import sys
import warnings
from contextlib import redirect_stderr
from dataclasses import MISSING
from dataclasses import fields as dataclass_fields
from typing import Any, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff

from s2s.cli.verbs import VERBS, Verb
from s2s.config import Section
from s2s.errors import BadInput, Failed, Stopped
from s2s.presets import PRESETS

USAGE = "\n".join(
    [
        "Trains and serves LSTM sequence-to-sequence translators, on a laptop or a Ray cluster.\n",
        "usage: s2s VERB [-h] [OPTIONS]\n",
        *(
            f"  s2s {verb:<10} {(kind.__doc__ or '').splitlines()[0]}"
            for verb, kind in VERBS.items()
        ),
        "\n`s2s VERB --help` explains a verb. Verbs with settings take a preset first "
        f"({', '.join(PRESETS)}):\n`s2s VERB PRESET --help` shows its values.\n",
        "Exit codes: 0 done, 1 failed, 2 bad input, 3 stopped but resumable.",
    ]
)


def main(arguments: list[str] | None = None) -> int:
    """Run `s2s VERB …` and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    if arguments[0] not in VERBS:
        return _complain(f"unknown verb {arguments[0]!r}; one of {', '.join(VERBS)} is expected", 2)
    return run(arguments[0], arguments[1:])


def run(verb: str, arguments: list[str] | None = None) -> int:
    """Run one verb on its command-line arguments and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        parse(verb, arguments).run()
    except BadInput as error:
        return _complain(str(error), 2)
    except Stopped as error:
        return _complain(str(error), 3)
    except Failed as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch, which few verbs import
            raise
        return _complain("the GPU's memory is full: a smaller --beam or --device cpu needs less", 1)
    except BrokenPipeError:
        # The reader of our output has gone (as `head` does); Python must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", 2)
    return 0


def parse(verb: str, arguments: list[str]) -> Verb:
    """The verb's arguments, the preset's values as defaults.

    Raises:
        BadInput: an option is unknown, missing or has a bad value.
        SystemExit: help was asked for, and printed.
    """
    kind = VERBS[verb]
    hints = get_type_hints(kind)
    sections = [n for n, h in hints.items() if isinstance(h, type) and issubclass(h, Section)]
    prog, default = f"s2s {verb}", tyro.MISSING_NONPROP
    if sections:
        if arguments[:1] in (["-h"], ["--help"]):
            arguments = ["seed", *arguments]
        if not arguments or arguments[0] not in PRESETS:
            found = f", not {arguments[0]!r}" if arguments else ""
            raise BadInput(f"{prog}: a preset comes first: {' or '.join(PRESETS)}{found}")
        prog, preset, arguments = f"{prog} {arguments[0]}", PRESETS[arguments[0]](), arguments[1:]
        default = _defaults(kind, {name: getattr(preset, name) for name in sections})
    box = io.StringIO()
    try:
        with redirect_stderr(box), warnings.catch_warnings(action="ignore"):
            parsed: Verb = tyro.cli(
                kind, prog=prog, args=arguments, default=default, config=(FlagCreatePairsOff,)
            )
            return parsed
    except SystemExit as stop:
        if stop.code:
            raise BadInput(f"{_one_line(box.getvalue())} (see {prog} --help)") from None
        raise


def _defaults(kind: Any, sections: dict[str, Section]) -> Any:
    """The verb with a preset's sections, and what must be given marked as missing."""
    required = {f.name: tyro.MISSING for f in dataclass_fields(kind) if f.default is MISSING}
    return kind(**{**required, **sections})


def _one_line(box: str) -> str:
    """What tyro says in a box, as a line: logs and scripts want no boxes."""
    lines = [line.strip("│| ") for line in box.splitlines()[1:]]  # the first is the box's title
    said = " ".join(line for line in lines if not set(line) <= set("─╰╯-+"))
    said = re.sub(r"For full helptext.*|Argument helptext:.*|\[type=.*?\]", "", said)
    said = re.sub(r"For further information visit \S+|1 validation error for \w+ ", "", said)
    return " ".join(said.split())


def _complain(what: str, code: int) -> int:
    """Say in one line what is wrong, whatever a library put into its message."""
    print(f"s2s: {' '.join(what.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
