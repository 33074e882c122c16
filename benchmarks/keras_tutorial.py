"""The word-level English-French tutorial in Keras, on the rows and ids of a corpus directory.

`python benchmarks/keras_tutorial.py --corpus CORPUS` wants a Python of its own that has
`tensorflow-cpu` and `pyarrow`; nothing else of this project is needed. CORPUS is what
`s2s prepare seed` wrote, so that Keras and `s2s` train on the same rows and compare as whole
programs. The last line of the output is one JSON object; `seconds` are of training, first batch
fetched to last step, and validation is told apart.

Shapes: N rows, S and T tokens of the corpus's longest source and target, V words of a vocabulary.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # errors alone; its import still tells of oneDNN

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

PAD, SOS = 0, 2
UNITS = 64
BATCH = 128
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Part:
    """The rows of `train` or `valid` as Keras takes them: all as long as the corpus's longest."""

    source: np.ndarray  # (N, S) int32, PAD after the last word
    target_in: np.ndarray  # (N, T) int32: <sos>, then the words
    target_out: np.ndarray  # (N, T) int32: the words, then <eos>; PAD after it

    @property
    def real(self) -> np.ndarray:
        """1 where a token is to be predicted and 0 where padding is, (N, T)."""
        return (self.target_out != PAD).astype(np.float32)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave, in the words of a model directory's `metrics.json`."""

    epoch: int
    train_loss: float  # Keras' own: nats per position, padding among them, while weights change
    train_padded_accuracy: float  # likewise
    valid_loss: float  # nats per real target token
    valid_token_accuracy: float  # of real target tokens, <eos> among them
    valid_padded_accuracy: float  # Keras' own: of all positions
    pairs_per_second: float
    target_tokens_per_second: float  # real tokens
    seconds: float  # of training, first batch fetched to last step; tracing is in the first epoch's
    cumulative_seconds: float  # of training, from the first epoch to this one's end
    valid_seconds: float


def main() -> None:
    """Train, and print a line for each epoch and one JSON object."""
    parser = argparse.ArgumentParser(prog="keras_tutorial.py", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="what `s2s prepare seed` wrote")
    parser.add_argument("--epochs", type=int, default=10, help="10 by default, as the tutorial")
    parser.add_argument(
        "--threads", type=int, help="of an operation, and operations at once; all cores by default"
    )
    parser.add_argument("--seed", type=int, default=0, help="of first weights and order; 0")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    arguments = parser.parse_args()

    threads = arguments.threads or len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(arguments.seed)

    manifest = json.loads((arguments.corpus / "corpus.json").read_bytes())
    longest = {
        side: max(int(n) for part in manifest["lengths"].values() for n in part[side])
        for side in ("source", "target")
    }
    train, valid = (_part(arguments.corpus / name, longest) for name in ("train", "valid"))
    words = {side: _words(arguments.corpus / f"{side}.json") for side in ("source", "target")}
    model = _model(longest, words)
    watch = Watch(model, train, valid, quiet=arguments.json)
    model.fit(
        (train.source, train.target_in),
        train.target_out,
        batch_size=BATCH,
        epochs=arguments.epochs,
        shuffle=True,
        verbose=0,  # the progress bar takes time of its own
        callbacks=[watch],
    )
    report = {
        "program": "keras_tutorial",
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
        },
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "seed": arguments.seed,
        "batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "units": UNITS,
        "jit_compile": model.jit_compile,
        "parameters": model.count_params(),
        "rows": {"train": len(train.source), "valid": len(valid.source)},
        "longest": longest,
        "vocabulary": words,
        "first_step_seconds": watch.first_step_seconds,
        "epochs": [asdict(epoch) for epoch in watch.epochs],
    }
    print(json.dumps(report))


def _part(folder: Path, longest: dict[str, int]) -> Part:
    """Read the Arrow shards of a part, in the order in which `datasets` would."""
    shards = json.loads((folder / "state.json").read_bytes())["_data_files"]
    tables = []
    for shard in shards:
        with pa.memory_map(str(folder / shard["filename"])) as file:
            tables.append(pa.ipc.open_stream(file).read_all())
    table = pa.concat_tables(tables)
    target_out = _padded(table["target_ids"], longest["target"])
    target_in = np.roll(target_out, 1, axis=1)
    target_in[:, 0] = SOS
    return Part(_padded(table["source_ids"], longest["source"]), target_in, target_out)


def _padded(column: pa.ChunkedArray, longest: int) -> np.ndarray:
    """Lists as rows, (N, longest) int32, PAD at their ends."""
    lists = column.combine_chunks()
    inside = np.arange(longest) < np.diff(lists.offsets.to_numpy())[:, None]  # (N, longest)
    rows = np.full(inside.shape, PAD, np.int32)
    rows[inside] = lists.flatten().to_numpy()  # row by row, as the values are
    return rows


def _words(tokenizer: Path) -> int:
    """Number of ids of a vocabulary; the specials are plain entries of it."""
    return len(json.loads(tokenizer.read_bytes())["model"]["vocab"])


def _model(longest: dict[str, int], words: dict[str, int]) -> keras.Model:
    """The tutorial's model, compiled as there: padding is a word like any other."""
    source = keras.Input((longest["source"],), dtype="int32", name="source")
    target = keras.Input((longest["target"],), dtype="int32", name="target")
    read = keras.layers.Embedding(words["source"], UNITS)(source)  # (B, S, UNITS)
    _, *state = keras.layers.LSTM(UNITS, return_state=True)(read)  # two of (B, UNITS)
    said = keras.layers.Embedding(words["target"], UNITS)(target)  # (B, T, UNITS)
    hidden = keras.layers.LSTM(UNITS, return_sequences=True)(said, initial_state=state)
    spread = keras.layers.Dense(words["target"], activation="softmax")(hidden)  # (B, T, V)
    model = keras.Model((source, target), spread)
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


class Watch(keras.callbacks.Callback):
    """Times each epoch and scores `valid` after it, off the clock."""

    def __init__(self, model: keras.Model, train: Part, valid: Part, quiet: bool) -> None:
        super().__init__()
        self.epochs: list[Epoch] = []
        self.first_step_seconds = 0.0  # with the tracing of the graph
        self._pairs, self._tokens = len(train.source), int(train.real.sum())
        self._valid, self._quiet = valid, quiet
        self._start = 0.0
        # The same layers under other metrics: those of real tokens would slow training down if
        # the model itself had them.
        self._scorer = keras.Model(model.inputs, model.outputs)
        self._scorer.compile(
            loss="sparse_categorical_crossentropy",
            metrics=[keras.metrics.SparseCategoricalAccuracy("padded_accuracy")],
            weighted_metrics=[
                keras.metrics.SparseCategoricalAccuracy("token_accuracy"),
                keras.metrics.SparseCategoricalCrossentropy("token_loss"),
            ],
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock; Keras fetches the first batch after this."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Note when the first step of all is done."""
        if not self.first_step_seconds:
            self.first_step_seconds = time.perf_counter() - self._start

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Stop the clock, then score."""
        seconds = time.perf_counter() - self._start
        scores = self._scorer.evaluate(
            (self._valid.source, self._valid.target_in),
            self._valid.target_out,
            sample_weight=self._valid.real,
            batch_size=BATCH,
            verbose=0,
            return_dict=True,
        )
        before = self.epochs[-1].cumulative_seconds if self.epochs else 0.0
        told = Epoch(
            epoch=epoch + 1,
            train_loss=logs["loss"],
            train_padded_accuracy=logs["accuracy"],
            valid_loss=scores["token_loss"],
            valid_token_accuracy=scores["token_accuracy"],
            valid_padded_accuracy=scores["padded_accuracy"],
            pairs_per_second=self._pairs / seconds,
            target_tokens_per_second=self._tokens / seconds,
            seconds=seconds,
            cumulative_seconds=before + seconds,
            valid_seconds=time.perf_counter() - self._start - seconds,
        )
        self.epochs.append(told)
        if not self._quiet:
            print(
                f"epoch {told.epoch}: {seconds:.1f} s, {told.pairs_per_second:,.0f} pairs/s, "
                f"valid loss {told.valid_loss:.3f}, token accuracy "
                f"{told.valid_token_accuracy:.4f}, padded accuracy "
                f"{told.valid_padded_accuracy:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
