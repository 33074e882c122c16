"""The optional dependencies: which extra of the package brings which module."""

# Of a top-level module: what a user calls the library, and the extras that bring it.
_LIBRARIES = {
    "fastapi": ("FastAPI", ("serve",)),
    "matplotlib": ("matplotlib", ("report",)),
    "mlflow": ("MLflow", ("mlflow",)),
    "msgpack": ("msgpack", ("serve",)),
    "platformdirs": ("platformdirs", ("demo",)),
    "py3langid": ("py3langid", ("serve",)),
    "pyrealb": ("pyrealb", ("demo",)),
    "python_multipart": ("python-multipart", ("serve",)),
    "ray": ("Ray", ("ray", "serve")),
    "starlette": ("FastAPI", ("serve",)),
    "uvicorn": ("uvicorn", ("serve",)),
    "wandb": ("Weights & Biases", ("wandb",)),
}


def advice(verb: str, error: ModuleNotFoundError) -> str | None:
    """Return the extra that a verb needs, as a line, or None if none brings the missing module."""
    module = (error.name or "").partition(".")[0]
    if module not in _LIBRARIES:
        return None
    library, extras = _LIBRARIES[module]
    extra = verb if verb in extras else extras[0]  # `s2s serve` needs Ray's `serve`
    return f"{verb} needs {library}: pip install 's2s[{extra}]'"
