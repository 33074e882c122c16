"""The word-level English-French tutorial in Keras, on the rows and ids of a corpus directory.

`python benchmarks/keras_tutorial.py --corpus CORPUS` needs a Python with `tensorflow-cpu` and
`pyarrow`, and nothing else of this project. CORPUS is a corpus directory of `s2s prepare seed`, so
that Keras and `s2s` train on the same rows and can be compared as whole programs. The last line of
the output is one JSON object; `seconds` are those of training, from the first batch fetched to the
last step, and exclude validation.

Shapes: N rows, S and T tokens of the corpus's longest source and target, V tokens of a vocabulary.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # errors alone; the import still logs a line on oneDNN

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

PAD, SOS = 0, 2
UNITS = 64
BATCH = 128
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Split:
    """Rows of a split as Keras takes them: all padded to the length of the corpus's longest."""

    source: np.ndarray  # (N, S) int32, PAD after the last token
    target_in: np.ndarray  # (N, T) int32: <sos>, then the tokens
    target_out: np.ndarray  # (N, T) int32: the tokens, then <eos>; PAD after it

    @property
    def real(self) -> np.ndarray:
        """Mask of the real target tokens, (N, T) float32: 1 for a token, 0 for padding."""
        return (self.target_out != PAD).astype(np.float32)


@dataclass(frozen=True)
class Epoch:
    """Record of an epoch, with the field names of a model directory's `metrics.json`."""

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
    """Train; print a line for each epoch, then one JSON object."""
    parser = argparse.ArgumentParser(prog="keras_tutorial.py", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="of `s2s prepare seed`")
    parser.add_argument("--epochs", type=int, default=10, help="default: 10, as in the tutorial")
    parser.add_argument(
        "--threads",
        type=int,
        help="threads of an operation, and parallel operations; default: all cores",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of initial weights and order; default: 0"
    )
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    arguments = parser.parse_args()

    threads = arguments.threads or len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(arguments.seed)

    manifest = json.loads((arguments.corpus / "corpus.json").read_bytes())
    longest = {
        side: max(int(n) for lengths in manifest["lengths"].values() for n in lengths[side])
        for side in ("source", "target")
    }
    train, valid = (_read_split(arguments.corpus / name, longest) for name in ("train", "valid"))
    vocabulary = {
        side: _vocabulary_size(arguments.corpus / f"{side}.json") for side in ("source", "target")
    }
    model = _model(longest, vocabulary)
    monitor = Monitor(model, train, valid, quiet=arguments.json)
    model.fit(
        (train.source, train.target_in),
        train.target_out,
        batch_size=BATCH,
        epochs=arguments.epochs,
        shuffle=True,
        verbose=0,  # the progress bar takes time of its own
        callbacks=[monitor],
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
        "vocabulary": vocabulary,
        "first_step_seconds": monitor.first_step_seconds,
        "epochs": [asdict(epoch) for epoch in monitor.epochs],
    }
    print(json.dumps(report))


def _read_split(folder: Path, longest: dict[str, int]) -> Split:
    """Read the Arrow shards of a split, in the order in which `datasets` reads them."""
    shards = json.loads((folder / "state.json").read_bytes())["_data_files"]
    tables = []
    for shard in shards:
        with pa.memory_map(str(folder / shard["filename"])) as file:
            tables.append(pa.ipc.open_stream(file).read_all())
    table = pa.concat_tables(tables)
    target_out = _pad(table["target_ids"], longest["target"])
    target_in = np.roll(target_out, 1, axis=1)
    target_in[:, 0] = SOS
    return Split(_pad(table["source_ids"], longest["source"]), target_in, target_out)


def _pad(column: pa.ChunkedArray, longest: int) -> np.ndarray:
    """Return lists as rows of a matrix, (N, longest) int32, PAD after the end of each."""
    lists = column.combine_chunks()
    inside = np.arange(longest) < np.diff(lists.offsets.to_numpy())[:, None]  # (N, longest)
    rows = np.full(inside.shape, PAD, np.int32)
    rows[inside] = lists.flatten().to_numpy()  # both are in row-major order
    return rows


def _vocabulary_size(tokenizer: Path) -> int:
    """Return the number of ids of a vocabulary, special tokens included."""
    return len(json.loads(tokenizer.read_bytes())["model"]["vocab"])


def _model(longest: dict[str, int], vocabulary: dict[str, int]) -> keras.Model:
    """Return the tutorial's model, compiled as in the tutorial: padding is not masked."""
    source = keras.Input((longest["source"],), dtype="int32", name="source")
    target = keras.Input((longest["target"],), dtype="int32", name="target")
    embedded = keras.layers.Embedding(vocabulary["source"], UNITS)(source)  # (B, S, UNITS)
    _, *state = keras.layers.LSTM(UNITS, return_state=True)(embedded)  # two of (B, UNITS)
    embedded = keras.layers.Embedding(vocabulary["target"], UNITS)(target)  # (B, T, UNITS)
    decoder = keras.layers.LSTM(UNITS, return_sequences=True)
    hidden = decoder(embedded, initial_state=state)  # (B, T, UNITS)
    probabilities = keras.layers.Dense(vocabulary["target"], activation="softmax")(
        hidden
    )  # (B, T, V)
    model = keras.Model((source, target), probabilities)
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


class Monitor(keras.callbacks.Callback):
    """Callback that times each epoch, and then scores `valid` outside of that time."""

    def __init__(self, model: keras.Model, train: Split, valid: Split, quiet: bool) -> None:
        super().__init__()
        self.epochs: list[Epoch] = []
        self.first_step_seconds = 0.0  # tracing of the graph included
        self._pairs, self._tokens = len(train.source), int(train.real.sum())
        self._valid, self._quiet = valid, quiet
        self._start = 0.0
        # A model of the same layers: the metrics of real tokens would slow training down if the
        # trained model had them.
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
        """Start the clock, before Keras fetches the first batch."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Store the time of the first step of all."""
        if not self.first_step_seconds:
            self.first_step_seconds = time.perf_counter() - self._start

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Stop the clock, then score `valid`."""
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
        record = Epoch(
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
        self.epochs.append(record)
        if not self._quiet:
            print(
                f"epoch {record.epoch}: {seconds:.1f} s, {record.pairs_per_second:,.0f} pairs/s, "
                f"valid loss {record.valid_loss:.3f}, token accuracy "
                f"{record.valid_token_accuracy:.4f}, padded accuracy "
                f"{record.valid_padded_accuracy:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
