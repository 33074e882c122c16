"""Settings that are described once, and offered by commands, requests and deployments."""

from dataclasses import fields, make_dataclass
from typing import Any

import pytest
import tyro
from pydantic import BaseModel, Field, ValidationError, create_model

from s2s.config import DecodeConfig
from s2s.distributed.deployment import Arguments
from s2s.errors import BadInput
from s2s.overrides import (
    COMMAND_OVERRIDES,
    MODEL_OVERRIDES,
    REQUEST_OVERRIDES,
    SERVICE_OVERRIDES,
    dataclass_fields,
    overridden,
    overrides,
    pydantic_fields,
)
from s2s.serving.http.schema import DetailedRequest

NAMES = ("beam", "unknown", "temperature", "top_k", "seed")
OFFERED = overrides(DecodeConfig, NAMES, at_most={"beam": 16})
DEFAULT = "None: the model's own."


def model_of(offered: Any) -> type[BaseModel]:
    return create_model("Request", **pydantic_fields(offered))


def flags_of(offered: Any) -> type:
    return make_dataclass("Flags", dataclass_fields(offered), frozen=True)


def parse(kind: type, *arguments: str) -> Any:
    return tyro.cli(kind, args=list(arguments))


class Extended(DecodeConfig):
    """Decoding settings with one more."""

    coverage: float | None = Field(default=None, ge=0, le=5)
    """Weight of the coverage penalty. None has none. In nats."""


# ---- a new setting -------------------------------------------------------------------------------


def test_a_new_setting_appears_wherever_its_name_is_offered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    offered = overrides(Extended, (*NAMES, "coverage"), at_most={"coverage": 2})
    schema = model_of(offered).model_json_schema()["properties"]["coverage"]
    assert schema["description"] == "Weight of the coverage penalty. In nats."
    assert schema["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 2}
    with pytest.raises(ValidationError):
        model_of(offered)(coverage=3)
    assert parse(flags_of(offered), "--coverage", "1.5").coverage == 1.5
    with pytest.raises(SystemExit):
        parse(flags_of(offered), "--help")
    assert "Weight of the coverage penalty. In nats." in " ".join(
        capsys.readouterr().out.replace("│", " ").split()
    )
    request = model_of(offered)(coverage=1)
    assert overridden(request, offered) == {"coverage": 1}


def test_a_setting_that_does_not_exist_cannot_be_offered() -> None:
    with pytest.raises(KeyError, match="beem"):
        overrides(DecodeConfig, ("beem",))
    with pytest.raises(KeyError, match="top_p"):
        overrides(DecodeConfig, ("beam",), at_most={"top_p": 0.5})


def test_a_request_offers_the_settings_of_the_config_that_are_named() -> None:
    names = [each.name for each in REQUEST_OVERRIDES]
    described = DetailedRequest.model_json_schema()["properties"]
    assert [name for name in described if name in DecodeConfig.model_fields] == names
    request = DetailedRequest.model_validate({"q": "a", "beam": 2, "unknown": "copy"})
    assert request.settings() == {"beam": 2, "unknown": "copy"}
    with pytest.raises(ValidationError):
        DetailedRequest.model_validate({"q": "a", "batch_size": 2})


def test_every_interface_offers_a_setting_that_it_does_not_leave_out() -> None:
    """Nothing lists what is offered, so a new setting is in all three at once."""
    offered = [{each.name for each in overrides} for overrides in
               (COMMAND_OVERRIDES, MODEL_OVERRIDES, REQUEST_OVERRIDES)]  # fmt: skip
    assert set.intersection(*offered) == {
        "beam", "length_penalty", "unknown", "split_sentences", "stop_on_repetition",
    }  # fmt: skip
    for left_out in set(DecodeConfig.model_fields) - set.union(*offered):
        assert left_out.startswith(("max_", "min_", "batch_"))
    assert {each.name for each in SERVICE_OVERRIDES} < set(Arguments.model_fields)
    with pytest.raises(ValidationError, match="beam"):
        Arguments(open=True, beam=17)


# ---- pydantic models -----------------------------------------------------------------------------


def test_every_field_may_be_left_out_and_is_described_by_the_config() -> None:
    model = model_of(OFFERED)
    assert overridden(model(), OFFERED) == {}
    assert tuple(model.model_fields) == NAMES
    described = DecodeConfig.model_fields
    assert model.model_fields["seed"].description == described["seed"].description
    # What None stands for in the config is not what it stands for here.
    assert "None" in str(described["top_k"].description)
    assert model.model_fields["top_k"].description == "Number of most likely tokens to sample from."


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("beam", [1, 16, None], [0, 17, 1000, "many"]),
        ("unknown", ["mark", "copy", None], ["", "drop"]),
        ("temperature", [1e-3, 1e3, None], [0, 1001]),
        ("top_k", [1, 10**9, None], [0]),
        ("seed", [0, 2**63 - 1, None], [-1, 2**63]),
    ],
)
def test_bounds_are_those_of_the_config_and_of_the_interface(
    name: str, good: list[Any], bad: list[Any]
) -> None:
    model = model_of(OFFERED)
    for value in good:
        assert getattr(model.model_validate({name: value}), name) == value
    for value in bad:
        with pytest.raises(ValidationError):
            model.model_validate({name: value})


# ---- command lines -------------------------------------------------------------------------------


def test_flags_are_parsed_by_type_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    flags = flags_of(overrides(DecodeConfig, NAMES, default=DEFAULT))
    given = parse(flags, "--beam", "4", "--unknown", "copy", "--temperature", "0.5")
    assert overridden(given, OFFERED) == {"beam": 4, "unknown": "copy", "temperature": 0.5}
    with pytest.raises(SystemExit):
        parse(flags, "--unknown", "drop")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        parse(flags, "--help")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "1 is greedy decoding. None: the model's own." in shown
    assert shown.count(DEFAULT) == len(fields(flags)) == len(NAMES)


def test_what_flags_give_is_checked_when_it_overrides() -> None:
    flags = flags_of(OFFERED)
    assert DecodeConfig().changed(**overridden(flags(beam=3), OFFERED)).beam == 3
    with pytest.raises(BadInput, match="beam: "):
        DecodeConfig().changed(**overridden(flags(beam=0), OFFERED))
