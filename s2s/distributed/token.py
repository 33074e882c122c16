"""The token with which a cluster of Ray admits its users, as messages name it."""

import os

_DEFAULT = "~/.ray/auth_token"


def token_is_sent() -> bool:
    """Return whether Ray sends a token from this process: RAY_AUTH_MODE alone decides."""
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def token_advice() -> str:
    """Return what to do about a cluster that refuses this process, as the end of a message."""
    if not token_is_sent():
        return (
            "asks for a token: set RAY_AUTH_MODE=token, and put the token of the cluster into "
            f"{_DEFAULT} (or RAY_AUTH_TOKEN, or the file of RAY_AUTH_TOKEN_PATH)"
        )
    return (
        f"refuses the token in {_place()} (RAY_AUTH_MODE=token): put the token of the cluster there"
    )


def missing_token() -> str:
    """Return what is wrong where RAY_AUTH_MODE asks for a token and there is none."""
    return (
        f"RAY_AUTH_MODE=token, but there is no token in {_place()}: put that of the cluster there"
    )


def _place() -> str:
    """Return where Ray reads the token, in the order in which it looks."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    return os.environ.get("RAY_AUTH_TOKEN_PATH") or _DEFAULT
