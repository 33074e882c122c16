"""Environment variables that libraries read when they are imported.

Nothing calls home, and no library adds to the output of the command. What the user has set stays.
"""

import os

_OFFLINE = frozenset({"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"})
_DEFAULTS = {
    **dict.fromkeys(_OFFLINE, "1"),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0, Tune prints no report of its own
    "RAY_SERVE_LOG_TO_STDERR": "0",
}

_set_here: set[str] = set()


def set_defaults() -> None:
    """Set what the user has not set; to be called before any of the libraries is imported."""
    for name, value in _DEFAULTS.items():
        if name not in os.environ:
            os.environ[name] = value
            _set_here.add(name)


def allow_downloads() -> None:
    """Let Hugging Face's libraries use the network, unless the user has forbidden it."""
    if _set_here >= _OFFLINE:
        os.environ.update(dict.fromkeys(_OFFLINE, "0"))
