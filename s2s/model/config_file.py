"""The file config.json of a model directory, which is read without torch."""

from pathlib import Path
from typing import Literal

from s2s.config import Config
from s2s.errors import BadInput
from s2s.files import describe_directory


class ConfigFile(Config):
    """A config with the version of the directory's layout."""

    format_version: Literal[2] = 2


def read_config(path: Path) -> Config:
    """Return the config of a model directory.

    Raises:
        BadInput: `config.json` is absent, broken or of another version.
    """
    try:
        text = (path / "config.json").read_bytes()
    except PermissionError as error:
        raise BadInput(f"{path / 'config.json'} cannot be read: {error.strerror}") from None
    except OSError:
        raise BadInput(
            f"{path} is not a model directory: {describe_directory(path, 'config.json')}"
        ) from None
    file = ConfigFile.from_json(text, str(path / "config.json"))
    return Config(**{key: getattr(file, key) for key in Config.model_fields})
