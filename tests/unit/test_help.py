"""The help at any width, and the completion of commands by shells."""

import io
import re
import shutil
import subprocess
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
import tyro

from s2s.cli.arguments import parse
from s2s.cli.completion import Completion
from s2s.cli.main import main
from s2s.cli.options import Option, groups, sections_of
from s2s.cli.translate import Translate
from s2s.cli.verbs import VERBS
from s2s.presets import PRESETS

Captured = pytest.CaptureFixture[str]


def options_of(verb: str, preset: str = "base") -> list[Option]:
    kind = VERBS[verb]
    return [each for group in groups(kind, sections_of(kind, preset)) for each in group.options]


def help_of(arguments: list[str], width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    text = io.StringIO()
    with redirect_stdout(text), suppress(SystemExit):
        main([*arguments, "--help"])
    return text.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_help_fits_the_width_and_keeps_every_word(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = 1000
    commands = [[], *([verb] for verb in VERBS), ["prepare", "seed"]]
    for arguments in commands:
        text = help_of(arguments, width, monkeypatch)
        assert max(map(len, text.splitlines())) <= width
        assert text.split() == help_of(arguments, wide, monkeypatch).split()
    for verb in VERBS:
        said = " ".join(help_of([verb], width, monkeypatch).split())
        for option in options_of(verb):
            assert option.is_positional or option.name in re.split(r",? ", said)
            description = option.description.partition(" None: ")[0]
            assert " ".join(description.split()) in said


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_the_options_that_the_command_line_takes(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tyro parses them, and its own help names them at the beginning of lines."""
    monkeypatch.setenv("COLUMNS", "90")  # in one column
    text = io.StringIO()
    with redirect_stdout(text), suppress(SystemExit):
        tyro.cli(VERBS[verb], args=["--help"])
    lines = re.findall(r"^  (--[a-z].*?)(?:  |$)", text.getvalue(), re.MULTILINE)
    parsed = {name for line in lines for name in re.findall(r"(?<!\S)--[\w.-]+", line)}
    options = [each for each in options_of(verb) if not each.is_positional]
    assert {name for option in options for name in option.names} == parsed
    positional = [each for each in options_of(verb) if each.is_positional]
    box = text.getvalue().partition("positional arguments")[2].partition(" options\n")[0]
    assert len(re.findall(r"^  [^\s-]", box, re.MULTILINE)) == len(positional)


def test_help_of_a_flag_that_is_on_says_how_to_turn_it_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of(preset: str, name: str) -> str:
        entries = re.split(r"\n(?=  --)", help_of(["prepare", preset], 100, monkeypatch))
        [entry] = [each for each in entries if each.strip().startswith(name)]
        return " ".join(entry.split())

    on = "(default: on; --corpus.clean.no-markup turns it off)"
    leaves_out = "Leave out rows with HTML or XML tags or character entities."
    assert of("base", "--corpus.clean.markup, --corpus.clean.no-markup").endswith(
        f"{leaves_out} {on}"
    )
    assert of("seed", "--corpus.clean.markup") == (
        f"--corpus.clean.markup {leaves_out} (default: off)"
    )
    assert "default" not in of("base", "--dry-run")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_flag_can_be_turned_on_and_off(preset: str, tmp_path: Path) -> None:
    required = ["--corpus", str(tmp_path), "--out", str(tmp_path / "out")]
    for flag, value in (("bidirectional", True), ("no-bidirectional", False)):
        verb = parse("train", VERBS["train"], [preset, *required, f"--model.{flag}"])
        assert verb.model.bidirectional is value


def test_the_default_of_an_override_is_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    said = " ".join(help_of(["translate"], 80, monkeypatch).split())
    assert "--beam INT Beam width; 1 is greedy decoding. (default: the model's own)" in said
    assert "None:" not in said
    assert Translate.__doc__ is not None
    assert " ".join(Translate.__doc__.split()) in said


def test_without_a_preset_help_names_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    said = " ".join(help_of(["train"], 80, monkeypatch).split())
    assert said.startswith("usage: s2s train PRESET --corpus PATH --out PATH [OPTIONS]")
    assert "PRESET is seed, demo, base or multi30k. The defaults below are the values of" in said
    assert "usage: s2s train seed --corpus" in help_of(["train", "seed"], 80, monkeypatch)


def test_a_narrow_terminal_breaks_no_message(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    messages = set()
    for width in (20, 80, 500):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["train", "demo", "--corpus", "c", "--out", "m", "--train.epochs", "0"]) == 2
        assert main(["translate", "m", "x", "y" * 200]) == 2
        messages.add(capsys.readouterr().err)
    [message] = messages
    assert "y" * 200 in message
    assert "https" not in message


# ---- completion ---------------------------------------------------------------------------------


def script(shell: str, tmp_path: Path) -> Path:
    text = io.StringIO()
    with redirect_stdout(text):
        assert main(["completion", shell]) == 0
    path = tmp_path / f"s2s.{shell}"
    path.write_text(text.getvalue())
    return path


COMPLETED = [
    ("s2s tra", {"train", "translate"}),
    ("s2s train ", set(PRESETS)),
    ("s2s train base --model.bi", {"--model.bidirectional"}),
    ("s2s train base --model.no-b", {"--model.no-bidirectional"}),
    ("s2s train base --model.cell ", {"lstm", "gru", "rnn"}),
    ("s2s train base --model.cell g", {"gru"}),
    ("s2s translate model --dev", {"--device"}),
    ("s2s completion z", {"zsh"}),
]


def test_bash_completes_verbs_presets_options_and_values(tmp_path: Path) -> None:
    """By the way that bash itself calls the function of `complete`."""
    path = script("bash", tmp_path)
    ask = (
        'source "$0"; set -u; complete -p s2s >&2; while IFS= read -r line; do '
        'IFS=" " read -ra COMP_WORDS <<< "$line"; [[ $line == *" " ]] && COMP_WORDS+=(""); '
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _s2s; "
        'echo "${COMPREPLY[*]-}"; done'
    )
    lines = [line for line, _ in COMPLETED] + ["s2s train base --corpus ", "s2s he", "s2s help com"]
    run = subprocess.run(
        ["bash", "-c", ask, path], input="\n".join(lines) + "\n", capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert run.stderr == "complete -o default -F _s2s s2s\n"  # `default`: the names of files
    answers = [set(answer.split()) for answer in run.stdout.splitlines()]
    expected = [words for _, words in COMPLETED]
    assert answers == [*expected, set(), {"help"}, {"compare", "completion"}]


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
def test_fish_completes_verbs_presets_options_and_values(tmp_path: Path) -> None:
    path = script("fish", tmp_path)
    for line, words in COMPLETED:
        run = subprocess.run(
            ["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"],
            capture_output=True, text=True, check=True, cwd=tmp_path,
        )  # fmt: skip
        offered = {each.partition("\t")[0] for each in run.stdout.splitlines()}
        assert offered - {path.name} == words
        assert run.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_has_the_syntax_of_its_shell(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    assert subprocess.run([shell, "-n", script(shell, tmp_path)], check=False).returncode == 0


def test_an_unknown_shell_is_told(capsys: Captured) -> None:
    assert main(["completion"]) == 2
    assert main(["completion", "tcsh"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "s2s: missing: shell to print the script for (see s2s completion --help)"
    assert "'tcsh'" in second
    assert "expected one of bash, zsh, fish, not 'tcsh'" in second


def test_completion_is_of_every_verb(tmp_path: Path) -> None:
    text = script("bash", tmp_path).read_text()
    assert all(verb in text for verb in VERBS)
    assert VERBS["completion"] is Completion
