"""The settings of a service, whatever runs it."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from s2s.overrides import SERVICE_OVERRIDES, pydantic_fields
from s2s.serving.engine.client import MAX_WAITING

if TYPE_CHECKING:
    _DecodingFields = BaseModel
else:  # a field for each setting of `DecodeConfig` that holds for a whole model
    _DecodingFields = create_model("_DecodingFields", **pydantic_fields(SERVICE_OVERRIDES))


class ServiceSettings(_DecodingFields):
    """Settings of a service, which hold as long as its process lives."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run: `cpu`, `cuda`, or `auto`, a GPU if the process may use one. A replica
    may if Serve gave it one or a part of one (`ray_actor_options: {num_gpus: 0.5}`)."""

    slots: int = Field(default=64, gt=0, le=4096)
    """Sentences that a model decodes greedily at a time, and as many that it searches by beams."""

    max_waiting: int = Field(default=MAX_WAITING, gt=0)
    """Sentences that may wait to be translated; more are refused (429). A text counts one more for
    every 200 characters, and all counts `beam` times `n_best` as much where a request sets these,
    divided by the model's own `beam`; such requests are counted apart from all others."""

    max_texts: int = Field(default=256, gt=0)
    """Most texts of one request."""

    max_sentences: int = Field(default=2_000, gt=0)
    """Most sentences of one request; a text counts one more for every 200 characters."""

    max_characters: int = Field(default=10_000, gt=0)
    """Most characters of one request, all texts together."""

    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds after which a request is given up (408)."""

    keys: str | None = None
    """File of API keys (`s2s key` makes its lines), read again when it changes. Required, unless
    `open` is set."""

    open: bool = False
    """Answer requests without a key."""

    open_metrics: bool = False
    """Answer `GET /metrics` without a key, where no keys are asked for. Otherwise it takes a key,
    and a service without keys refuses it."""

    suggestions: str | None = None
    """File to which `POST /suggest` adds better translations, as lines of JSON; None refuses them.
    Every node that runs a replica has a file of its own."""

    access_log: str | None = None
    """File to which a line is added for each request, or `-` for standard error; None writes none.
    Every node that runs a replica has a file of its own."""

    cors: list[str] = Field(default_factory=list)
    """Origins whose pages may send requests; `*` for any."""

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if not self.keys and not self.open:
            raise ValueError("either `keys` names a file of API keys, or `open` is true")
        if self.max_waiting < self.max_sentences:
            raise ValueError(f"max_waiting: the largest request alone counts {self.max_sentences}")
        return self
