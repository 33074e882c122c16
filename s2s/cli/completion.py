"""`s2s completion`."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from s2s.cli.help import EXAMPLE, summary
from s2s.cli.options import Option, groups, sections_of
from s2s.cli.verb import Verb
from s2s.presets import PRESETS


@dataclass(frozen=True)
class Completion(Verb):
    """Print a script that makes a shell complete verbs, presets, options and their values.

    For bash: `source <(s2s completion bash)`, for zsh: `source <(s2s completion zsh)`, for fish:
    `s2s completion fish | source`. Put the line into ~/.bashrc, ~/.zshrc or
    ~/.config/fish/config.fish.
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """Shell to print the script for."""

    def run(self) -> None:
        """Print the script."""
        print({"bash": _bash, "zsh": _zsh, "fish": _fish}[self.shell](_commands()))


@dataclass(frozen=True)
class _Command:
    """A verb as scripts complete it."""

    verb: str
    summary: str
    takes_preset: bool
    options: tuple[Option, ...]


def _commands() -> list[_Command]:
    from s2s.cli.verbs import VERBS  # `completion` is one of them

    commands = []
    for verb, kind in VERBS.items():
        sections = sections_of(kind, EXAMPLE)
        options = [each for group in groups(kind, sections) for each in group.options]
        commands.append(_Command(verb, summary(kind), bool(sections), tuple(options)))
    return commands


def _bash(commands: list[_Command]) -> str:
    """Return the script for bash, with all words in it: pressing Tab starts no Python."""
    verbs = [each.verb for each in commands]
    with_preset = "|".join(f"2:{each.verb}" for each in commands if each.takes_preset)
    values, words = [], []
    for command in commands:
        options = [each for each in command.options if not each.is_positional]
        values += [
            f"{command.verb}:{each.name}) words={_quoted(each.choices)} ;;"
            for each in options
            if each.choices
        ]
        if files := [each.name for each in options if each.value.startswith("PATH")]:
            pattern = "|".join(f"{command.verb}:{name}" for name in files)
            values.append(f"{pattern}) ;;")  # bash completes the names of files
        offered = [word for each in command.options for word in _words(each)]
        words.append(f"{command.verb}) words={_quoted([*offered, '--help'])} ;;")
    indent = "\n            "
    return f"""\
_s2s() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local verb=${{COMP_WORDS[1]}} words=
    case $COMP_CWORD:$verb in
        1:*) words={_quoted([*verbs, "help", "--help", "--version"])} ;;
        2:help) words={_quoted(verbs)} ;;
        {with_preset}|3:help) words={_quoted(PRESETS)} ;;
        *) case $verb:$before in
            {indent.join(values)}
            *) case $verb in
            {indent.join(words)}
            esac ;;
        esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _s2s s2s"""


def _zsh(commands: list[_Command]) -> str:
    """Return the script for zsh, which runs that of bash."""
    load = "(( $+functions[compdef] )) || { autoload -U compinit && compinit; }"
    return f"{load}\nautoload -U bashcompinit && bashcompinit\n{_bash(commands)}"


def _fish(commands: list[_Command]) -> str:
    """Return the script for fish, which shows a description of each word."""
    return "\n".join(_fish_lines(commands))


def _fish_lines(commands: list[_Command]) -> Iterator[str]:
    first = "complete -c s2s -f -n __fish_use_subcommand"
    yield f"{first} -a help -d 'Explain a verb'"
    yield f"{first} -l version -d 'Print the version'"
    for command in commands:
        yield f"{first} -a {command.verb} -d {shlex.quote(command.summary)}"
        after = f"complete -c s2s -n '__fish_seen_subcommand_from {command.verb}'"
        if command.takes_preset:
            yield f"{after} -a {_quoted(PRESETS)} -d preset"
        for option in command.options:
            values = f"-f -a {_quoted(option.choices)}" if option.choices else ""
            description = f"-d {shlex.quote(option.description.partition('. ')[0])}"
            if option.is_positional:
                if values:
                    yield f"{after} {values} {description}"
                continue
            on, *off = _words(option)
            required = "-r" if option.value else ""
            yield f"{after} -l {on.removeprefix('--')} {required} {values} {description}"
            for name in off:
                yield f"{after} -l {name.removeprefix('--')} -d 'Turn {on} off'"


def _words(option: Option) -> tuple[str, ...]:
    """Return what to offer for an option: nobody turns off what is off before any preset."""
    if option.is_positional:
        return option.choices
    return option.names if "." in option.name else (option.name,)


def _quoted(words: Iterable[str]) -> str:
    """Return words as one word of a shell."""
    return shlex.quote(" ".join(words))
