"""A keys file that is read again while a service runs, so that changes of keys count at once."""

import logging
import threading
import time
from pathlib import Path

from s2s.errors import BadInput
from s2s.serving.http.api_keys import Key, Keys, parse_keys, read_keys

_SETTLED = 0.1  # seconds for which a change must stay: an editor may be writing

_Content = bytes | str | None  # or why it can't be read, or None where there is no file

_LOGGER = logging.getLogger("s2s.serving")


class KeysFile:
    """A keys file and the keys that it had when it was last valid.

    The content is compared, not the time of its last change, which may be too coarse to tell two
    changes apart. A file that becomes invalid or unreadable changes nothing; one that is removed or
    emptied leaves no key valid. Both are logged.

    Raises:
        BadInput: the file is not valid to begin with, or has no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = _content(path)
        self.keys = Keys(read_keys(path))

    def watch(self, seconds: float = 1.0) -> None:
        """Start a thread that looks at the file again and again, as long as this process lives.

        Args:
            seconds: between two looks.
        """

        def look() -> None:
            while True:
                time.sleep(seconds)
                try:
                    self.refresh()
                except Exception:  # the thread must live on
                    _LOGGER.exception("%s: could not be read again", self._path)

        threading.Thread(target=look, name="s2s-keys", daemon=True).start()

    def refresh(self) -> None:
        """Take the keys of the file, if it has changed since the last look."""
        content = _content(self._path)
        if content == self._content:
            return
        while True:
            time.sleep(_SETTLED)
            before, content = content, _content(self._path)
            if content == before:
                break
        if content == self._content:
            return
        self._content = content
        self._take(content)

    def _take(self, content: _Content) -> None:
        try:
            keys = self._parse(content)
        except BadInput as error:
            _LOGGER.error("keeping the API keys read before: %s", error)
            return
        self.keys.replace(keys)
        if keys:
            _LOGGER.warning("%s: read again, %d keys", self._path, len(keys))
        else:
            _LOGGER.error("%s: removed or empty, so no API key is valid", self._path)

    def _parse(self, content: _Content) -> list[Key]:
        if content is None:
            return []
        if isinstance(content, str):
            raise BadInput(content)
        try:
            return parse_keys(self._path, content.decode("utf-8"))
        except UnicodeDecodeError:
            raise BadInput(f"{self._path}: not UTF-8") from None


def _content(path: Path) -> _Content:
    """Return the content of a file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path}: {error.strerror}"
