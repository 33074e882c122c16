"""The presets: named configurations to start from."""

from collections.abc import Callable

from s2s.config import (
    CleanConfig,
    Config,
    CorpusConfig,
    DecodeConfig,
    ModelConfig,
    TextConfig,
    TrainConfig,
)


def seed() -> Config:
    """Configure the tutorial: 33,000 rows, LSTM 64 without attention, a random 10 % held out."""
    return Config(
        text=TextConfig(normaliser="tutorial"),
        corpus=CorpusConfig(
            rows=33_000,
            split="random",
            valid=0.1,
            test=0.0,
            vocabulary_from="all",
            clean=CleanConfig(
                control=False,
                markup=False,
                script=False,
                identical=False,
                max_characters=None,
                max_ratio=None,
                duplicate=False,
            ),
        ),
        model=ModelConfig(embedding_size=64, hidden_size=64),
        train=TrainConfig(epochs=10, batch_size=128, learning_rate=1e-3),
        decode=DecodeConfig(max_length=16, max_source=8),
    )


def demo() -> Config:
    """Configure two minutes of training on two CPU cores, for the embedded demo corpus."""
    return Config(
        text=TextConfig(source_normaliser="simplified"),
        corpus=CorpusConfig(valid=0.05, test=0.05),
        model=ModelConfig(embedding_size=96, hidden_size=256),
        train=TrainConfig(epochs=8, batch_size=128, learning_rate=2e-3),
        decode=DecodeConfig(max_length=40),
    )


def base() -> Config:
    """Configure a start for a corpus of your own: lossless text, at most 8,000 subwords."""
    return Config(
        text=TextConfig(source_normaliser="simplified", units="bpe", vocabulary_size=8_000),
        corpus=CorpusConfig(typos=0.1, unknown_words=0.1),
        model=ModelConfig(
            embedding_size=256,
            hidden_size=512,
            bidirectional=True,
            attention="general",
            dropout=0.3,
            tie="target",
        ),
        train=TrainConfig(
            epochs=15,
            batch_size=128,
            learning_rate=2e-3,
            schedule="cosine",
            warmup_steps=400,
            clip_norm=1.0,
            label_smoothing=0.1,
        ),
        decode=DecodeConfig(beam=5, max_length=100, max_source=100, unknown="copy"),
    )


def multi30k() -> Config:
    """Configure the Multi30k captions as their authors tokenised them, for comparable BLEU."""
    start = base()
    return Config(
        text=TextConfig(normaliser="tokenised", min_frequency=2, shared=True),
        corpus=CorpusConfig(
            clean=CleanConfig(markup=False, script=False, identical=False, duplicate=False)
        ),
        model=start.model.model_copy(update={"dropout": 0.5, "tie": "all"}),
        train=start.train.model_copy(
            update={"epochs": 30, "keep_best": 5, "average": "best", "average_epochs": 5}
        ),
        decode=DecodeConfig(beam=5, max_length=60, unknown="copy"),
    )


PURPOSES = {
    "base": "for a corpus of your own",
    "seed": "for the tutorial's model",
    "demo": "for the embedded corpus",
    "multi30k": "for the Multi30k captions",
}
"""What each preset is for."""

PRESETS: dict[str, Callable[[], Config]] = {
    "seed": seed,
    "demo": demo,
    "base": base,
    "multi30k": multi30k,
}
