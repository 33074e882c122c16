"""The arguments of the Serve application; what it does with them the system tests show."""

from typing import Any

import pytest
from pydantic import ValidationError

from s2s.distributed.deployment import Arguments, UserConfig


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "`keys` names a file of API keys, or `open` is true"),
        ({"open": True, "slot": 3}, "slot"),
        ({"open": True, "slots": 0}, "slots"),
        ({"open": True, "precision": "int4"}, "precision"),
        ({"open": True, "max_waiting": 1999}, "largest request alone counts 2000"),
        ({"open": True, "max_sentences": 5000}, "largest request alone counts 5000"),
    ],
)
def test_what_is_wrong_with_arguments_is_told(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Arguments.model_validate(given)


def test_the_largest_request_may_wait() -> None:
    Arguments(open=True, max_waiting=2000)


def test_model_directories_are_a_list_or_have_commas_between_them() -> None:
    told = Arguments.model_validate({"models": "en-fr,en-de", "open": True})
    assert told.models == ["en-fr", "en-de"]
    assert UserConfig.model_validate({"models": told.models}).models == told.models
    with pytest.raises(ValidationError, match="models"):
        UserConfig(models=[])
