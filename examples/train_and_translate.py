"""Train a translator on sentence pairs, score it and translate with it.

On the embedded demo corpus, or on pairs of your own:

    python examples/train_and_translate.py
    python examples/train_and_translate.py pairs.tsv en-de --out german --preset base --epochs 10
"""

import argparse
from pathlib import Path

import s2s
from s2s.errors import BadInput


def main() -> None:
    """Go from pairs to translations."""
    given = parse_arguments()
    corpus = s2s.prepare(given.pairs, given.out / "corpus", given.languages, given.preset)
    settings = {"train.epochs": given.epochs}
    trained = s2s.train(corpus, given.out / "model", given.preset, settings)

    translator = s2s.load(trained.path).with_settings(beam=5)
    for score in s2s.evaluate(translator, corpus, "test").scores:
        print(f"{score.name} {score.score:.2f} (references {score.references})")

    held_out = corpus.split("test")[:5]
    translations = translator.translate(held_out["source"])
    for source, target, translation in zip(
        held_out["source"], held_out["target"], translations, strict=True
    ):
        print(f"\nsource       {source}\ntranslation  {translation}\nreference    {target}")


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Train a translator and translate with it.")
    parser.add_argument("pairs", nargs="?", default="demo", help="file of sentence pairs")
    parser.add_argument("languages", nargs="?", default="en-fr", help="source and target language")
    parser.add_argument("--out", type=Path, default=Path("example"), help="folder to write to")
    parser.add_argument("--preset", choices=s2s.PRESETS, default="demo", help="settings")
    parser.add_argument("--epochs", type=int, default=3, help="passes over the corpus")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:  # a file, a language or a setting that cannot be used
        raise SystemExit(f"error: {error}") from None
