"""Settings by dotted names, such as `train.epochs`, as Python and sweeps give them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from s2s.config import Config, Section, describe
from s2s.errors import BadInput
from s2s.suggestions import did_you_mean

Settings = Mapping[str, object]


def changed(config: Config, settings: Settings, sections: tuple[str, ...]) -> Config:
    """Return a config with some settings changed.

    Args:
        settings: values by dotted names.
        sections: those to which the settings may belong.

    Raises:
        BadInput: there is no such setting, or a value is out of range.
    """
    require_known(settings, {name for each in sections for name in setting_names(config, each)})
    tree: dict[str, Any] = config.model_dump()
    for name, value in settings.items():
        *parents, key = name.split(".")
        section = tree
        for parent in parents:
            section = section[parent]
        section[key] = value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise BadInput(describe(error)) from None


def setting_names(section: Section, name: str) -> Iterator[str]:
    """Yield the dotted names of all settings in a field of a section."""
    value = getattr(section, name)
    if not isinstance(value, Section):
        yield name
        return
    for field in type(value).model_fields:
        for inner in setting_names(value, field):
            yield f"{name}.{inner}"


def require_known(names: Iterable[str], known: set[str]) -> None:
    """Check names of settings.

    Raises:
        BadInput: one of them is unknown.
    """
    for name in names:
        if name not in known:
            raise BadInput(f"unknown setting {name!r}{did_you_mean(name, known)}")
