"""The dependencies: what every installation has, and which extra brings which other module."""

from importlib.util import find_spec

DISTRIBUTION = "s2s-nmt"  # what pip installs; the name `s2s` is another project's

# Of a top-level module: what a user calls the library, and the extra that brings it.
_LIBRARIES = {
    "fastapi": ("FastAPI", "serve"),
    "matplotlib": ("matplotlib", "report"),
    "mlflow": ("MLflow", "mlflow"),
    "msgpack": ("msgpack", "serve"),
    "onnx": ("ONNX", "onnx"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
    "optuna": ("Optuna", "tune"),
    "prometheus_client": ("prometheus-client", "serve"),
    "py3langid": ("py3langid", "serve"),
    "pyrealb": ("pyrealb", "demo"),
    "python_multipart": ("python-multipart", "serve"),
    "ray": ("Ray", "ray"),
    "starlette": ("FastAPI", "serve"),
    "uvicorn": ("uvicorn", "serve"),
    "wandb": ("Weights & Biases", "wandb"),
}


# Top-level modules of the dependencies that every installation has.
REQUIRED = (
    "babel", "datasets", "docstring_parser", "fsspec", "numpy", "platformdirs", "pyarrow",
    "pydantic", "yaml", "rich", "sacrebleu", "safetensors", "sentencex", "tensorboardX",
    "tokenizers", "torch", "tyro", "xxhash",
)  # fmt: skip


# Further top-level modules that jobs need.
MODULES_OF_VERBS = {"tune": ("optuna",)}


def missing() -> list[str]:
    """Return the required modules that this Python lacks."""
    return [module for module in REQUIRED if find_spec(module) is None]


def advice(verb: str, error: ModuleNotFoundError) -> str | None:
    """Return the extra that a verb needs, as a line, or None if none brings the missing module."""
    module = (error.name or "").partition(".")[0]
    if module not in _LIBRARIES:
        return None
    library, extra = _LIBRARIES[module]
    return f"{verb} needs {library}: {install_command(extra)}"


def install_command(extras: str) -> str:
    """Return the command that installs an extra, or several separated by commas."""
    return f"pip install '{DISTRIBUTION}[{extras}]'"
