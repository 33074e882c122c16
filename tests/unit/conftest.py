"""The models that tests of serving share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from s2s.serving.engine.models import Models


@pytest.fixture(scope="module")
def models(model_dir: Path) -> Iterator[Models]:
    """The model directory, in a process of its own."""
    models = Models()
    models.serve([model_dir])
    yield models
    models.close()
