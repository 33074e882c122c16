"""The configuration tree.

A `Config` is frozen, rejects unknown keys, and survives JSON exactly. The docstring under each
field is the only place where the field is described: it is also its `--help`.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from s2s.errors import BadInput


def describe(error: ValidationError) -> str:
    """What is wrong with some values, in one line: each key with its fault."""
    faults = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"]) or "value"
        what = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        what = what.removeprefix("Value error, ")  # pydantic's name for our own words
        faults.append(f"{key}: {what}")
    return "; ".join(faults)


class Section(BaseModel):
    """A frozen group of settings that rejects keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        """The section that JSON text describes; `where` names the text in the error.

        Raises:
            BadInput: the text is no JSON, has an unknown key, or a value out of range.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadInput(f"{where}: {describe(error)}") from None

    def to_json(self) -> str:
        """The section as JSON text that `from_json` turns into an equal one."""
        return self.model_dump_json(indent=2) + "\n"


class TextConfig(Section):
    """How sentences become words."""

    normaliser: Literal["tutorial", "lossless", "tokenised"] = "lossless"
    """`tutorial` lower-cases, strips accents and keeps only letters and `! . ?`; `lossless` keeps
    every character, and a decoded sentence is the one that was encoded; `tokenised` takes what
    stands between spaces as words, for text that another program has split."""

    units: Literal["word", "bpe", "unigram"] = "word"
    """What a token is: a whole word, or a part of one, as byte pair encoding (Sennrich, 2016) or
    a unigram language model (Kudo, 2018) cuts it."""

    vocabulary_size: int | None = Field(default=None, gt=0)
    """Most frequent words, or units of words, kept in each language; the others read as `<unk>`.
    None keeps all words."""

    min_frequency: int = Field(default=1, gt=0)
    """Times that a word must occur to be in the vocabulary."""

    shared: bool = False
    """One vocabulary for both languages."""

    @model_validator(mode="after")
    def _parts_of_words_need_a_size(self) -> Self:
        if self.units != "word" and self.vocabulary_size is None:
            raise ValueError(f"units {self.units} needs a vocabulary_size")
        return self


class CleanConfig(Section):
    """Rules that leave rows out; each counts its rows in the manifest.

    Rows that have an empty side, or not two columns, are always left out.
    """

    encoding: bool = True
    """Leave out rows that are no valid UTF-8, or hold the mark of an earlier bad decoding."""

    control: bool = True
    """Leave out rows with control characters, byte order marks or overrides of direction."""

    markup: bool = True
    """Leave out rows with tags or character entities of HTML and XML."""

    script: bool = True
    """Leave out rows of which a side has less than half of its letters in its language's script."""

    identical: bool = True
    """Leave out rows whose source and target are the same but for case, marks and spaces."""

    max_characters: int | None = Field(default=1000, gt=0)
    """Leave out rows with a longer side (`too_long`). None keeps any."""

    max_ratio: float | None = Field(default=4.0, ge=1)
    """Leave out rows of which one side is so many times longer than the other, 15 characters added
    to both so that short sentences may differ (`length_ratio`). None keeps any."""

    duplicate: bool = True
    """Leave out all but the first of equal rows."""


class CorpusConfig(Section):
    """Which rows of a corpus are used, and for what."""

    rows: int | None = Field(default=None, gt=0)
    """Rows read from the start of the source; None reads all."""

    split: Literal["random", "grouped"] = "grouped"
    """`grouped` keeps all rows of one source sentence in one part, and no held-out sentence in
    `train`; `random` shuffles rows as the tutorial does, and so leaks held-out sentences."""

    valid: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of the rows held out to choose the best epoch."""

    test: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the rows held out for the final scores; 0 makes no `test` part."""

    clean: CleanConfig = CleanConfig()

    vocabulary_from: Literal["train", "all"] = "train"
    """The rows that the vocabulary is learned on; `all` is the tutorial's way."""

    seed: int = Field(default=0, ge=0)
    """Decides which rows are held out."""


class ModelConfig(Section):
    """The network."""

    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    """Recurrent cell of encoder and decoder."""

    layers: int = Field(default=1, gt=0)
    """Recurrent layers in the encoder, and as many in the decoder."""

    embedding_size: int = Field(default=64, gt=0)
    """Width of a word's vector."""

    hidden_size: int = Field(default=64, gt=0)
    """Width of the recurrent state, which is also the context vector's."""

    bidirectional: bool = False
    """The encoder reads both ways, each with half of the hidden size, and a linear bridge makes the
    context vector of both halves (Bahdanau et al., 2015)."""

    reverse_source: bool = False
    """The encoder reads the source backwards (Sutskever et al., 2014)."""

    attention: Literal["none", "dot", "general", "additive"] = "none"
    """How the decoder looks back at the source: not at all, so that it has the context vector
    alone; by the product of states, or a learned one (Luong et al., 2015); or by a small network
    (Bahdanau et al., 2015)."""

    input_feeding: bool = False
    """The decoder also reads what it predicted its last word from (Luong et al., 2015): training
    goes word by word, which is slow. Needs attention."""

    residual: bool = False
    """Layers above the first add their input to their output (Wu et al., 2016)."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the features that training drops of embeddings, between layers and before the output
    layer, the same ones for all words of a sentence (Gal and Ghahramani, 2016)."""

    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the words that training hides from encoder and decoder."""

    tie: Literal["none", "target", "all"] = "none"
    """Weights that are one: `target`, those of the decoder's embedding and output layer (Press and
    Wolf, 2017); `all`, those of the encoder's embedding, too, which needs a vocabulary that both
    languages share."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError("bidirectional needs an even hidden_size")
        if self.input_feeding and self.attention == "none":
            raise ValueError("input_feeding needs attention")
        return self


class TrainConfig(Section):
    """The training run."""

    epochs: int = Field(default=10, gt=0)
    """Passes over the training part."""

    batch_size: int = Field(default=128, gt=0)
    """Sentence pairs that one optimizer step sees, over all workers together."""

    batch_tokens: int | None = Field(default=None, gt=0)
    """Target tokens, padding included, that one optimizer step sees over all workers together,
    instead of `batch_size` pairs. None counts pairs."""

    accumulate: int = Field(default=1, gt=0)
    """Parts in which a worker computes its share of a batch, one after the other: less memory,
    the same gradient."""

    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Step size of Adam, the highest that the schedule reaches."""

    schedule: Literal["constant", "cosine", "inverse_sqrt", "plateau"] = "constant"
    """How the learning rate falls after the warm-up: not at all, along half a cosine to zero
    (Loshchilov and Hutter, 2017), with the root of the step (Vaswani et al., 2017; needs a
    warm-up), or by a factor whenever the loss on `valid` has stopped falling."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the learning rate rises from zero."""

    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    """What `plateau` multiplies the learning rate by."""

    plateau_patience: int = Field(default=1, gt=0)
    """Epochs without a new best loss on `valid` after which `plateau` does so."""

    patience: int | None = Field(default=None, gt=0)
    """Epochs without a new best loss on `valid` after which the run ends early. None never does."""

    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Norm to which a larger gradient is scaled down. None never scales."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target word's probability that training spreads over all words."""

    average: Literal["none", "best", "last"] = "none"
    """The weights of the model directory: those of the best epoch, or the mean of those of some
    epochs, the best or the last."""

    average_epochs: int = Field(default=5, gt=1)
    """Epochs of which the mean is taken."""

    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """What matrix products are computed in; weights and sums are always kept in fp32. `auto` takes
    bf16 where the hardware has it, else fp16 on a GPU, else fp32. `tf32`, fp32 rounded to 10 bits,
    is for GPUs, and so is `fp16`."""

    compress_gradients: bool = False
    """Send gradients between workers in bf16, but for those of embeddings: half the bytes."""

    checkpoint_steps: int | None = Field(default=None, gt=0)
    """Steps after which a checkpoint is written, beside the one at the end of every epoch."""

    checkpoint_minutes: float | None = Field(default=10.0, gt=0)
    """Minutes after which a checkpoint is written, beside those."""

    keep_last: int = Field(default=2, gt=0)
    """Newest checkpoints that are kept."""

    keep_best: int = Field(default=1, gt=0)
    """Checkpoints that are kept of the epochs with the least loss on `valid`."""

    log_steps: int = Field(default=50, gt=0)
    """Steps after which loss, rate and times are logged."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides the first weights and the order of the batches."""

    @model_validator(mode="after")
    def _root_needs_a_warmup(self) -> Self:
        if self.schedule == "inverse_sqrt" and not self.warmup_steps:
            raise ValueError("schedule inverse_sqrt needs warmup_steps")
        return self


class DecodeConfig(Section):
    """How a trained model translates."""

    beam: int = Field(default=1, ge=1, le=1000)
    """Hypotheses that the search keeps at a time; 1 is greedy decoding."""

    n_best: int = Field(default=1, ge=1)
    """Translations given for each sentence, best first; no more than `beam`, unless sampled."""

    length_penalty: float = Field(default=1.0, ge=0, le=10)
    """Exponent of the length by which hypotheses' log-probabilities are divided (Wu et al., 2016);
    0 favours short ones."""

    max_length: int = Field(default=50, gt=0)
    """Target words after which a translation is cut, `<eos>` or not."""

    max_ratio: float | None = Field(default=None, gt=0, le=1000)
    """The same, for each source word."""

    min_ratio: float = Field(default=0.0, ge=0, le=1000)
    """Target words for each source word before which a translation does not end."""

    unknown: Literal["mark", "copy", "avoid"] = "mark"
    """What becomes of `<unk>`: it is shown; replaced by the source word that the decoder looked at
    most, as it was written (Luong et al., 2015b; needs attention, else it is shown); or another
    word is said instead."""

    temperature: float | None = Field(default=None, ge=1e-3, le=1e3)
    """Words are drawn by chance, from logits divided by this. None draws none."""

    top_k: int | None = Field(default=None, ge=1)
    """Likeliest words that are drawn from. None draws from all."""

    top_p: float | None = Field(default=None, gt=0, le=1)
    """Probability of the likeliest words that are drawn from. None draws from all."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides what is drawn."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """What the output layer is computed in. bf16 is faster where the hardware has it; its rounding
    may choose another word where two are nearly as likely. A CPU that has none takes fp32."""

    batch_size: int = Field(default=64, gt=0)
    """Sentences translated together."""

    max_source: int = Field(default=50, gt=0)
    """Source tokens above which a text is cut into sentences that are translated apart."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.temperature is None:
            if self.n_best > self.beam:
                raise ValueError(f"n_best {self.n_best} needs a beam at least as wide")
            if self.top_k is not None or self.top_p is not None:
                raise ValueError("top_k and top_p need a temperature")
        elif self.beam > 1:
            raise ValueError("a temperature draws words: it needs beam 1")
        return self

    def changed(self, **settings: object) -> "DecodeConfig":
        """The same but for these settings; None leaves one as it is.

        Raises:
            BadInput: a setting is out of range, or does not go with another one.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        if "temperature" in given:
            given.setdefault("beam", 1)  # whatever it was
        try:
            return DecodeConfig.model_validate({**self.model_dump(), **given})
        except ValidationError as error:
            raise BadInput(describe(error)) from None


class DataConfig(Section):
    """What a corpus directory depends on: the data half of a `Config`."""

    source_language: str = "en"
    """Code of the language translated from."""

    target_language: str = "fr"
    """Code of the language translated to."""

    text: TextConfig = TextConfig()
    corpus: CorpusConfig = CorpusConfig()


class Config(DataConfig):
    """All that a model directory depends on, beside the corpus itself."""

    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    decode: DecodeConfig = DecodeConfig()
