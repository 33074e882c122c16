"""The configuration tree.

A `Config` is frozen, rejects unknown keys, and is the same after a round trip through JSON. Each
field is described in one place, the docstring under it, which is also its `--help`.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from s2s.errors import BadInput


def describe(error: ValidationError) -> str:
    """Return what is wrong with some values, in one line: each key with its fault."""
    faults = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"])
        what = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        what = what.removeprefix("Value error, ")  # which pydantic puts before our own messages
        what = what.replace("Input should ", "must ")
        faults.append(f"{key}: {what}" if key else what)
    return "; ".join(faults)


class Section(BaseModel):
    """A frozen group of settings that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        """Return the section that JSON text describes.

        Args:
            where: name of the text in error messages.

        Raises:
            BadInput: the text is not JSON, or has an unknown key or a value out of range.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadInput(f"{where}: {describe(error)}") from None

    def to_json(self) -> str:
        """Return the section as JSON text, from which `from_json` makes an equal one."""
        return self.model_dump_json(indent=2) + "\n"


class TextConfig(Section):
    """How sentences are split into tokens."""

    normaliser: Literal["tutorial", "lossless", "tokenised"] = "lossless"
    """`tutorial` lower-cases, strips accents and keeps only letters and `! . ?`; `lossless` keeps
    every character, so that a decoded sentence equals the encoded one; `tokenised` splits at spaces
    only, for text that is tokenised already."""

    source_normaliser: Literal["same", "simplified"] = "same"
    """How sources are normalised, which never have to be given back: `same` as targets, or
    `simplified`, which reads as one what people, keyboards and editors write in several ways:
    capitals and small letters, kinds of spaces, quotation marks, dashes and ellipses, full-width
    and other compatibility forms (NFKC), and text with invisible characters."""

    units: Literal["word", "bpe", "unigram"] = "word"
    """What a token is: a whole word, or a subword from byte pair encoding (Sennrich et al., 2016)
    or from a unigram language model (Kudo, 2018)."""

    vocabulary_size: int | None = Field(default=None, gt=0)
    """Maximum number of words, the most frequent ones, or of subwords for each language. Other
    words are read as `<unk>`. None keeps all words; subwords need a number."""

    min_frequency: int | None = Field(default=None, gt=0)
    """Minimum number of times that a word must occur to be in the vocabulary, or two subwords of
    `bpe` side by side to become one. None is 1 for words and 10 for subwords. Single characters
    are always kept."""

    shared: bool = False
    """Use one vocabulary for both languages."""

    def normaliser_of(self, side: Literal["source", "target"]) -> str:
        """Return the name of a side's normaliser."""
        simplified = side == "source" and self.source_normaliser == "simplified"
        return "simplified" if simplified else self.normaliser

    @property
    def lowest_frequency(self) -> int:
        """Number of times that a word, or a pair of subwords, must occur."""
        return self.min_frequency or (1 if self.units == "word" else 10)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.units != "word" and self.vocabulary_size is None:
            raise ValueError(f"units {self.units} needs a vocabulary_size")
        return self


class CleanConfig(Section):
    """Rules that leave out rows; the manifest counts the rows that each one leaves out.

    Rows with an empty side, or without two columns, are always left out.
    """

    encoding: bool = True
    """Leave out rows that are not valid UTF-8, are UTF-8 encoded twice (`Ã©` for `é`), or contain a
    replacement character (U+FFFD)."""

    control: bool = True
    """Leave out rows with control characters, byte order marks or direction overrides."""

    markup: bool = True
    """Leave out rows with HTML or XML tags or character entities."""

    script: bool = True
    """Leave out rows in which less than half of a side's letters are in the script of its language,
    or in one of them if it has several and its code names none."""

    identical: bool = True
    """Leave out rows whose source and target differ only in case, punctuation and spaces, or not at
    all."""

    max_characters: int | None = Field(default=1000, gt=0)
    """Leave out rows with a side of more characters (rule `too_long`). None sets no limit."""

    max_ratio: float | None = Field(default=4.0, ge=1)
    """Leave out rows with one side more than this many times as long as the other (rule
    `length_ratio`), after adding 15 characters to both to spare short sentences. A character of
    Chinese, Japanese or Korean counts as three. None sets no limit."""

    duplicate: bool = True
    """Leave out rows that are equal to an earlier row."""


class CorpusConfig(Section):
    """Which rows of the sources are used, and how they are split."""

    rows: int | None = Field(default=None, gt=0)
    """Number of rows to read from the start of the source. None reads all."""

    split: Literal["random", "grouped"] = "grouped"
    """`grouped` keeps all rows of a source sentence in one split and held-out sentences out of
    `train`; `random` shuffles the rows as the tutorial does, which leaks held-out sentences into
    `train`."""

    valid: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of the rows to hold out for choosing the best epoch."""

    test: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the rows to hold out for the final scores; 0 makes no `test` split."""

    check_languages: bool = True
    """Refuse sources whose two sides are swapped, mixed up or in other languages than named, as far
    as a sample of their rows surely shows (needs py3langid, of the extra `serve`)."""

    clean: CleanConfig = CleanConfig()

    vocabulary_from: Literal["train", "all"] = "train"
    """Rows to learn the vocabulary from; `all`, as in the tutorial, includes held-out rows."""

    typos: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows of `train` in which a word of the source gets a typo, so that a model of
    subwords learns to read words with typos."""

    unknown_words: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows of `train` in which a word that both sides share, such as a name, becomes
    `<unk>` on both, so that a model of subwords learns to copy words that it cannot spell. Rows
    that share no word stay as they are."""

    seed: int = Field(default=0, ge=0)
    """Random seed that decides which rows are held out, and which get noise."""


class ModelConfig(Section):
    """The network."""

    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    """Recurrent cell of the encoder and the decoder."""

    layers: int = Field(default=1, gt=0)
    """Number of recurrent layers in the encoder, and in the decoder."""

    embedding_size: int = Field(default=64, gt=0)
    """Size of the token embeddings."""

    hidden_size: int = Field(default=64, gt=0)
    """Size of the recurrent state and of the context vector."""

    bidirectional: bool = False
    """Read the source in both directions, each with half of the hidden size; a linear layer joins
    the two final states into the context vector (Bahdanau et al., 2015)."""

    reverse_source: bool = False
    """Read the source backwards (Sutskever et al., 2014)."""

    attention: Literal["none", "dot", "general", "additive"] = "none"
    """How the decoder attends to the source: not at all (`none`: it has the context vector only),
    by the dot product of states or by a learned product (`dot`, `general`: Luong et al., 2015), or
    by a small network (`additive`: Bahdanau et al., 2015)."""

    input_feeding: bool = False
    """Feed the attentional hidden state that predicted a token into the next step of the decoder
    (Luong et al., 2015). Needs attention; training is slower, as it goes token by token."""

    residual: bool = False
    """Add the input of each layer above the first to its output (Wu et al., 2016)."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout rate of embeddings, between layers and before the output layer; one mask is used for
    all tokens of a sentence (Gal and Ghahramani, 2016)."""

    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the tokens that are hidden from the encoder and decoder during training."""

    tie: Literal["none", "target", "all"] = "none"
    """Weights to share: `target` shares those of the decoder's embedding and the output layer
    (Press and Wolf, 2017); `all` also those of the encoder's embedding, which needs a shared
    vocabulary."""

    output: Literal["full", "adaptive"] = "full"
    """Output layer: one product for all tokens (`full`), or the adaptive softmax of Grave et al.
    (2017), in which rare words cost little. `adaptive` trains large vocabularies faster; it needs
    a vocabulary of words, and ties no weights."""

    frequent_words: int = Field(default=2000, ge=4)
    """Number of words, the most frequent ones and special tokens, that `output` `adaptive` computes
    for every token. The others are in clusters, each of which ends at the fivefold of its start."""

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.output == "adaptive" and self.tie != "none":
            raise ValueError("output adaptive needs tie none")
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError("bidirectional needs an even hidden_size")
        if self.input_feeding and self.attention == "none":
            raise ValueError("input_feeding needs attention")
        return self


class TrainConfig(Section):
    """The training run."""

    epochs: int = Field(default=10, gt=0)
    """Number of passes over the `train` split."""

    batch_size: int = Field(default=128, gt=0)
    """Sentence pairs per optimizer step, over all workers."""

    batch_tokens: int | None = Field(default=None, gt=0)
    """Target tokens per optimizer step, over all workers and including padding; replaces
    `batch_size`. None counts sentence pairs."""

    accumulate: int = Field(default=1, gt=0)
    """Number of micro-batches into which each worker divides its share of a batch: less memory,
    same gradient."""

    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Highest learning rate of Adam."""

    schedule: Literal["constant", "cosine", "inverse_sqrt", "plateau"] = "constant"
    """Learning rate after the warm-up: `constant`; `cosine`, half a cosine down to zero (Loshchilov
    and Hutter, 2017); `inverse_sqrt`, falling with the inverse square root of the step (Vaswani et
    al., 2017; needs a warm-up); or `plateau`, lowered when the loss on `valid` stops improving."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises from zero."""

    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    """Factor by which `plateau` multiplies the learning rate."""

    plateau_patience: int = Field(default=1, gt=0)
    """Epochs without a new best loss on `valid` before `plateau` lowers the learning rate."""

    patience: int | None = Field(default=None, gt=0)
    """Epochs without a new best loss on `valid` before training stops early. None trains all
    epochs."""

    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Maximum norm of the gradient; a larger one is scaled down to it. None does not clip."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target token's probability that is spread over the whole vocabulary during
    training; with `model.output` `adaptive`, over the words and clusters of each softmax that is
    computed for the token."""

    average: Literal["none", "best", "last"] = "none"
    """Weights to write to the model directory: of the best epoch (`none`), or averaged over the
    best or the last epochs."""

    average_epochs: int = Field(default=5, gt=1)
    """Number of epochs to average."""

    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """Precision of matrix products; weights and sums are always in fp32. `auto` is bf16 where the
    hardware supports it, else fp16 on a GPU and fp32 on a CPU. `tf32` (fp32 with a 10-bit mantissa)
    and `fp16` need a GPU."""

    compress_gradients: bool = False
    """Exchange the gradients between workers in bf16, except those of embeddings, which halves the
    traffic. It has no effect where workers on one host sum them in shared memory."""

    checkpoint_steps: int | None = Field(default=None, gt=0)
    """Steps between checkpoints, in addition to the one at the end of every epoch. None writes no
    others."""

    checkpoint_minutes: float | None = Field(default=10.0, gt=0)
    """Minutes between checkpoints, in addition to these. None writes no others."""

    keep_last: int = Field(default=2, gt=0)
    """Number of latest checkpoints to keep."""

    keep_best: int = Field(default=1, gt=0)
    """Number of checkpoints to keep of the epochs with the lowest loss on `valid`."""

    log_steps: int = Field(default=50, gt=0)
    """Steps between logs of loss, learning rate and times."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Random seed of the initial weights and of the order of the batches."""

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        if self.schedule == "inverse_sqrt" and not self.warmup_steps:
            raise ValueError("schedule inverse_sqrt needs warmup_steps")
        return self


class DecodeConfig(Section):
    """How a trained model translates."""

    beam: int = Field(default=1, ge=1, le=1000)
    """Beam width; 1 is greedy decoding."""

    n_best: int = Field(default=1, ge=1)
    """Number of translations per sentence, best first; at most `beam`, unless sampled."""

    length_penalty: float = Field(default=1.0, ge=0, le=10)
    """Exponent of the length penalty by which a hypothesis's log-probability is divided (Wu et al.,
    2016); 0 favours short translations."""

    max_length: int = Field(default=50, gt=0)
    """Maximum number of target tokens; a longer translation is cut off."""

    max_ratio: float | None = Field(default=None, gt=0, le=1000)
    """Maximum number of target tokens per source token. None sets no limit beyond `max_length`."""

    min_ratio: float = Field(default=0.0, ge=0, le=1000)
    """Minimum number of target tokens per source token."""

    unknown: Literal["mark", "copy", "avoid"] = "mark"
    """What to do with unknown tokens: `mark` shows `<unk>`; `copy` puts in the source word that the
    decoder attended to most, as written (Luong et al., 2015b), and without attention the unknown
    words of the source in their order; `avoid` chooses another token."""

    stop_on_repetition: bool = True
    """End a translation that has come to repeat itself, and cut it back to the first occurrence: an
    n-gram of up to 8 tokens occurs four times in a row, and more often than any in the source."""

    temperature: float | None = Field(default=None, ge=1e-3, le=1e3)
    """Sample tokens, from logits divided by this temperature. None does not sample."""

    top_k: int | None = Field(default=None, ge=1)
    """Number of most likely tokens to sample from. None samples from all."""

    top_p: float | None = Field(default=None, gt=0, le=1)
    """Total probability of the most likely tokens to sample from. None samples from all."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Random seed of sampling."""

    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """Precision of products. Lower ones are faster, but rounding may change the choice between
    nearly equal tokens. `bf16` is that of the output layer; a CPU without bf16 uses `fp32`. `int8`
    is that of all products with weights; it needs ONNX Runtime, and a GPU uses `bf16`."""

    shortlist: int | None = Field(default=None, ge=1, le=200)
    """Number of likely target tokens of each source token, and of frequent tokens, that
    translations may have (Jean et al., 2015), as `s2s shortlist` finds them; fewer are faster. None
    allows all tokens."""

    batch_size: int = Field(default=64, gt=0)
    """Number of sentences to translate together."""

    max_source: int = Field(default=50, gt=0)
    """Maximum length of a line in source tokens; a longer one is always split into sentences, which
    are translated separately. A sentence that is longer, and longer than `max_length`, is cut into
    parts of this length after a comma, semicolon or colon, else at a space."""

    split_sentences: bool | None = None
    """Translate each sentence of a line separately, as a model that was trained on sentences needs.
    None splits, unless most source lines of the model's corpus hold several sentences; the rows of
    a corpus are never split by it."""

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.temperature is None:
            if self.n_best > self.beam:
                raise ValueError(f"n_best {self.n_best} needs a beam at least as wide")
            if self.top_k is not None or self.top_p is not None:
                raise ValueError("top_k and top_p need a temperature")
        elif self.beam > 1:
            raise ValueError("sampling with a temperature needs beam 1")
        return self

    def without_marks(self) -> "DecodeConfig":
        """Return the settings for readers who must not see `<unk>`: `copy` instead of `mark`."""
        return self.changed(unknown="copy") if self.unknown == "mark" else self

    @property
    def method(self) -> str:
        """How translations are found, in words."""
        if self.temperature is not None:
            return f"drawn at temperature {self.temperature}"
        return "greedy" if self.beam == 1 else f"beam {self.beam}"

    def changed(self, **settings: object) -> "DecodeConfig":
        """Return a copy with these settings; None leaves a setting as it is.

        Raises:
            BadInput: a setting is out of range, or contradicts another one.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        if "temperature" in given:
            given.setdefault("beam", 1)  # sampling needs it, whatever the model has
        try:
            return DecodeConfig.model_validate({**self.model_dump(), **given})
        except ValidationError as error:
            raise BadInput(describe(error)) from None


class DataConfig(Section):
    """What a corpus directory depends on: the data half of a `Config`."""

    source_language: str = "en"
    """Code of the source language."""

    target_language: str = "fr"
    """Code of the target language."""

    text: TextConfig = TextConfig()
    corpus: CorpusConfig = CorpusConfig()


class Config(DataConfig):
    """Everything that a model directory depends on, except the corpus itself."""

    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    decode: DecodeConfig = DecodeConfig()
