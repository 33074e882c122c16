"""`s2s key`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from s2s.cli.verb import Verb
from s2s.errors import BadInput


@dataclass(frozen=True)
class Key(Verb):
    """Create, list or remove the API keys of `s2s serve --keys FILE`.

    Creating prints the key, which is stored nowhere: give it to its owner. A line with its hash is
    added to the file, or printed if no file is named. Running services follow the file within
    seconds: a removed key is refused.
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Owner of the key: the name that you will know it by."""

    file: Path | None = None
    """Keys file."""

    per_minute: float | None = None
    """Sentences a minute that each replica translates for the key. A text counts one more for every
    200 characters, and all counts `beam` times `n_best` as much where a request sets these, divided
    by the model's own beam. None: any number."""

    characters: int | None = None
    """Characters that a request with the key may have. None: as many as the service takes."""

    anonymous: bool = False
    """Instead of a key, add the allowance that all requests without a key share; needs
    --per-minute."""

    list: bool = False
    """List the names, the limits and the days of creation in the file."""

    json: bool = False
    """With --list: print JSON."""

    remove: bool = False
    """Remove the key of this name from the file (`anonymous`: the allowance)."""

    def run(self) -> None:
        """Do what was asked for."""
        from s2s.serving.http.api_keys import ANONYMOUS, remove_key

        if self.json and not self.list:
            raise BadInput("--json needs --list")
        if self.anonymous + self.list + self.remove > 1:
            raise BadInput("give one of --anonymous, --list and --remove")
        if self.list:
            if self.name is not None:
                raise BadInput("--list takes no name")
            _list(self._require_file("--list"), as_json=self.json)
        elif self.remove:
            if self.name is None:
                raise BadInput("name the key to remove")
            file = self._require_file("--remove")
            remove_key(file, self.name)
            print(f"removed {self.name}; services that use {file} follow within seconds")
        elif self.anonymous:
            if self.name not in (None, ANONYMOUS):
                raise BadInput("--anonymous takes no name")
            self._allow_anonymous()
        elif self.name is None:
            raise BadInput("name the owner of the key")
        else:
            self._create(self.name)

    def _create(self, name: str) -> None:
        from s2s.serving.http.api_keys import ANONYMOUS

        if name == ANONYMOUS:
            raise BadInput(
                f"{name} is the allowance's name: name the key otherwise, or --anonymous"
            )
        from s2s.serving.http.api_keys import add_key, new_key

        key, line = new_key(name, self.per_minute, self.characters)
        if self.file is None:
            print(f"{key}\n{line}")
        else:
            add_key(self.file, line)
            print(key)

    def _allow_anonymous(self) -> None:
        from s2s.serving.http.api_keys import add_key, anonymous_line

        line = anonymous_line(self.per_minute, self.characters)
        if self.file is None:
            print(line)
        else:
            add_key(self.file, line)

    def _require_file(self, option: str) -> Path:
        if self.file is None:
            raise BadInput(f"{option} needs --file")
        return self.file


def _list(path: Path, *, as_json: bool) -> None:
    """Print the keys of a file."""
    from s2s.serving.http.api_keys import list_keys

    keys = list_keys(path)
    if as_json:
        entries = [
            {
                "name": key.name,
                "anonymous": key.anonymous,
                "per_minute": key.per_minute,
                "characters": key.characters,
                "created": key.created and key.created.isoformat(),
            }
            for key in keys
        ]
        print(json.dumps(entries, indent=2))
        return
    if not keys:
        print(f"{path} has no keys")
    width = max((len(key.name) for key in keys), default=0)
    for key in keys:
        rate = "any number of" if key.per_minute is None else f"{key.per_minute:g}"
        size = "" if key.characters is None else f", {key.characters:,} characters a request"
        created = "" if key.created is None else f", created {key.created}"
        print(f"{key.name:<{width}}  {rate} sentences a minute{size}{created}")
