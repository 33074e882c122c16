"""Files of options: the TOML or YAML file of `--config`, and the one that a run leaves.

A file has the options of a verb by their names, and settings in tables of their own:

    preset = "base"
    corpus = "corpora/mine"

    [train]
    epochs = 20

Options on the command line take precedence. A preset is the first argument, or `preset` in the
file.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import tyro
import yaml
from pydantic import TypeAdapter, ValidationError

from s2s.cli.verb import Verb, group_of
from s2s.config import Section, describe
from s2s.errors import BadInput
from s2s.locations import Location, absolute
from s2s.suggestions import did_you_mean

# Fields of verbs that no file sets: they say how the verb was called.
NOT_OPTIONS = frozenset({"command", "config", "given", "preset"})


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the content of a file of options, with underscores in all names.

    Raises:
        BadInput: the file cannot be read, or is neither TOML nor YAML with names and values.
    """
    is_toml = path.suffix.lower() == ".toml"
    try:
        text = path.read_text("utf-8")
        content = tomllib.loads(text) if is_toml else yaml.load(text, _Loader)  # noqa: S506
    except OSError as error:
        raise BadInput(f"--config {path}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:  # of TOML, and of UTF-8
        kind = "TOML" if is_toml else "YAML"
        raise BadInput(f"--config {path} is not {kind}: {error}") from None
    if not isinstance(content, dict):
        raise BadInput(f"--config {path}: names and values of options are needed")
    tree: dict[str, Any] = {}
    try:
        _add(tree, content)
    except ValueError as error:
        raise BadInput(f"--config {path}: {error}") from None
    return tree


def _add(tree: dict[str, Any], content: Mapping[Any, Any], prefix: str = "") -> None:
    """Add mappings to a tree, with underscores in their keys, and dotted keys as branches.

    A value of None counts as absent at the top, where it would be an option without a value.

    Raises:
        ValueError: a key is there twice.
    """
    for key, value in content.items():
        *parents, name = str(key).replace("-", "_").split(".")
        if value is None and not (prefix or parents):
            continue
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{prefix}{parent} has a value and settings of its own")
        if isinstance(value, dict) and isinstance(inner.setdefault(name, {}), dict):
            _add(inner[name], value, f"{prefix}{'.'.join([*parents, name])}.")
        elif name in inner:
            raise ValueError(f"{prefix}{'.'.join([*parents, name])} is there twice")
        else:
            inner[name] = value


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: keys that are there twice, and 2:30 for 150."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping, as the loader does."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key} is there twice")
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(r"[-+]?\d+$") if tag == "tag:yaml.org,2002:int" else pattern)
        for tag, pattern in resolvers
        if tag != "tag:yaml.org,2002:float"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def option_names(content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of the options that a file sets, as the command line has them."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from option_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}".replace("_", "-")


def defaults(
    kind: type[Verb], sections: Mapping[str, Section], content: Mapping[str, Any], file: Path | None
) -> Any:
    """Return a verb with defaults from a preset and a file; required options may be missing.

    Args:
        kind: class of the verb.
        sections: of the preset, by the names of the verb's fields.
        content: of the file; empty without one.
        file: the file, for messages.

    Raises:
        BadInput: a name in the file is unknown, or a value is wrong.
    """
    hints = get_type_hints(kind, include_extras=True)
    own = {field.name: field for field in fields(kind) if field.name not in NOT_OPTIONS}
    # Options of a group of their own, such as the decoding settings, stand among the verb's.
    annotations = {name: getattr(hints[name], "__metadata__", ()) for name in own}
    groups = {name: group for name in own if (group := group_of(annotations[name])) is not None}
    known = {*own, *(inner.name for group in groups.values() for inner in fields(group))}
    values: dict[str, Any] = {
        name: tyro.MISSING for name, field in own.items() if _is_required(field)
    }
    values |= sections
    for name in content:
        if name not in known - groups.keys() and name != "preset":
            choice = did_you_mean(name, known - groups.keys())
            raise BadInput(f"--config {file}: unknown option {name!r}{choice}")
    for name in own:
        if name in groups:
            names = [inner.name for inner in fields(groups[name])]
            given = {each: content[each] for each in names if each in content}
            if given or name in values:
                values[name] = _validated(groups[name], given, "", file)
        elif name in sections and name in content:
            _require_known(sections[name], content[name], name, file)
            merged = _merged(sections[name].model_dump(), content[name])
            values[name] = _validated(type(sections[name]), merged, name, file)
        elif name in content:
            values[name] = _validated(hints[name], content[name], name, file)
    return kind(**values)


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _merged(before: Any, after: Any) -> Any:
    """Return nested mappings in which the values of `after` replace the values of `before`."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return after
    return {**before, **{key: _merged(before.get(key), value) for key, value in after.items()}}


def _validated(kind: Any, value: Any, name: str, file: Path | None) -> Any:
    """Return a value of a file as the type of its option.

    Raises:
        BadInput: the value is wrong.
    """
    for each in _readings(value):
        with suppress(ValidationError):
            return TypeAdapter(kind).validate_python(each)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        prefix = f"{name}." if name and isinstance(value, dict) else f"{name}: " if name else ""
        raise BadInput(f"--config {file}: {prefix}{describe(error)}") from None


def _readings(value: Any) -> Iterator[Any]:
    """Yield a value, then what the command line would make of it: text, or a list of one."""
    yield value
    if isinstance(value, list):
        yield [str(each) for each in value]
    elif not isinstance(value, dict):
        yield str(value)
        yield [value]
        yield [str(value)]


def _require_known(section: Section, content: Any, name: str, file: Path | None) -> None:
    """Check the names of settings in a file.

    Raises:
        BadInput: one is unknown, or there is a value in place of settings.
    """
    if not isinstance(content, dict):
        raise BadInput(f"--config {file}: {name}: settings are needed, not {content!r}")
    known = type(section).model_fields
    for key, value in content.items():
        if key not in known:
            nearest = did_you_mean(key, known)
            raise BadInput(f"--config {file}: unknown setting {name}.{key}{nearest}")
        if isinstance(inner := getattr(section, key), Section):
            _require_known(inner, value, f"{name}.{key}", file)


def config_text(verb: Verb) -> str:
    """Return all options of a verb as YAML, which `--config` reads again.

    What makes a run start over is left out.
    """
    tree: dict[str, Any] = {"preset": verb.preset} if verb.preset else {}
    hints = get_type_hints(type(verb))
    for field in fields(verb):
        value = getattr(verb, field.name)
        if value is not None and hints[field.name] in (Location, Location | None):
            value = absolute(value)
        if field.name not in {*NOT_OPTIONS, "restart"} and value is not None:
            tree[field.name] = _plain(value)
    plain = json.loads(json.dumps(tree, default=str))  # paths as text, tuples as lists
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """Return the value of an option for a file that is read elsewhere: paths are absolute."""
    if isinstance(value, Section):
        return value.model_dump()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Path) or (
        isinstance(value, str) and "/" in value and Path(value).exists()
    ):
        return str(Path(value).absolute())
    return value
