"""`s2s key`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class NewKey:
    """Create an API key for `s2s serve --keys FILE`.

    Prints the key, which is stored nowhere: give it to its owner. A line with its hash is added to
    the file, or printed if no file is named.
    """

    name: Annotated[str, tyro.conf.Positional]
    """Owner of the key: the name that you will know it by."""

    file: Path | None = None
    """Keys file to add the line to."""

    per_minute: float | None = None
    """Requests a minute that the key may make of each replica. None: any number."""

    def run(self) -> None:
        """Print the key and store its hash."""
        from s2s.serving.http.api_keys import add_key, new_key

        key, line = new_key(self.name, self.per_minute)
        if self.file is None:
            print(f"{key}\n{line}")
        else:
            add_key(self.file, line)
            print(key)
