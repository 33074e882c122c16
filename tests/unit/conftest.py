"""The models that tests of serving share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from s2s.serving.engine.models import Models
from tests.support.serving import models_of


@pytest.fixture(scope="module")
def models(model_dir: Path) -> Iterator[Models]:
    """The model directory, its engine in a thread of this process."""
    with models_of(model_dir) as models:
        yield models
