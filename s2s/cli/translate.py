"""`s2s translate`."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from s2s.cli.output import opened, tell_incomplete
from s2s.cli.verb import DecodingOptions, Verb, decoding_options
from s2s.console import counting, printable
from s2s.errors import BadInput
from s2s.locations import Location
from s2s.overrides import COMMAND_OVERRIDES
from s2s.text.lines import raw_lines

if TYPE_CHECKING:
    from s2s.decoding.translation import SentenceTranslations


@dataclass(frozen=True)
class Translate(Verb):
    """Translate a text, a file or standard input: a line in, a line out.

    Each sentence of a line is translated separately. What has no word to translate, such as a
    number or a URL, stays as it is.

    With several translations of each line (--n-best), each is a line of its own: number of the line
    read, score and translation, separated by tabs. Of several sentences, the best translations are
    joined, then the second best, and so on; the score is the sum of theirs.
    """

    model: Annotated[Location, tyro.conf.Positional]
    """Model directory, at a path or URI."""

    decoding: Annotated[DecodingOptions, *decoding_options(COMMAND_OVERRIDES)]

    sentence: Annotated[str | None, tyro.conf.Positional] = None
    """A single sentence to translate."""

    input: Path | None = None
    """File with a sentence on each line; standard input if neither this nor a sentence is given."""

    output: Path | None = None
    """File to write; standard output by default."""

    checkpoint: str | None = None
    """Translate with a checkpoint of the run that makes MODEL, before the run has finished: `best`,
    `newest` or a step."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to translate: `auto` uses a GPU if there is one."""

    json: bool = False
    """Write a JSON object for each line: its translation, and the translations of each of its
    sentences with scores, words and attention."""

    # Lines read, translated and written at a time: memory stays flat however long the input is.
    CHUNK: ClassVar[int] = 4096

    def run(self) -> None:
        """Write the translations."""
        from s2s.decoding.translator import Translator
        from s2s.devices import find_device
        from s2s.training.run_checkpoint import model_path

        if self.sentence is not None and self.input is not None:
            raise BadInput("give a sentence or --input, not both")
        if self.input is not None and not self.input.is_file():
            raise BadInput(f"{self.input}: no such file")
        if (
            self.input is not None
            and self.output is not None
            and (self.input.resolve() == self.output.resolve())
        ):
            raise BadInput(f"--output {self.output} is the input; name another file")
        if self.sentence is None and self.input is None and sys.stdin.isatty():
            print("type sentences, one a line; Ctrl-D ends", file=sys.stderr)
        with model_path(self.model, self.checkpoint) as path:
            translator = Translator.load(path, find_device(self.device))
        translator = translator.with_settings(**self.decoding.settings())
        detailed = self.json or translator.config.decode.n_best > 1
        with opened(self.output) as output, counting("translated") as count:
            # A person at a terminal gets each translation at once.
            size = 1 if self.input is None and sys.stdin.isatty() else self.CHUNK
            # Files and pipes get every character as it is.
            shown = printable if output.isatty() else str
            lines, first = self._lines(translator.config.source_language), 1
            incomplete: list[int] = []  # numbers of lines
            while chunk := list(islice(lines, size)):
                if detailed:
                    texts = translator.translate_in_detail(chunk)
                    for number, (line, sentences) in enumerate(
                        zip(chunk, texts, strict=True), first
                    ):
                        output.write(self._details(number, line, sentences, shown))
                        if any(each.of_rank(0).finish_reason != "stop" for each in sentences):
                            incomplete.append(number)
                    count(len(chunk))
                else:
                    translations = translator.translate(chunk, count)
                    output.writelines(f"{shown(translation)}\n" for translation in translations)
                    incomplete += [first + place for place in translations.incomplete]
                first += len(chunk)
                output.flush()
        tell_incomplete(incomplete, translator.config.decode.max_length)

    def _details(
        self,
        number: int,
        line: str,
        sentences: "list[SentenceTranslations]",
        shown: Callable[[str], str],
    ) -> str:
        """Return the translations of a line as text for programs: tab-separated, or JSON.

        Args:
            shown: gives text as it is written.
        """
        from s2s.decoding.translation import joined

        if not self.json:
            ranks = range(max((len(each.translations) for each in sentences), default=1))
            scores = [sum(each.of_rank(rank).score for each in sentences) for rank in ranks]
            return "".join(
                f"{number}\t{score:.4f}\t{shown(joined(sentences, rank))}\n"
                for rank, score in zip(ranks, scores, strict=True)
            )
        record = {
            "line": number,
            "source": line,
            "translation": joined(sentences),
            "sentences": [
                {
                    "source": each.sentence.stripped,
                    "translations": [asdict(translation) for translation in each.translations],
                }
                for each in sentences
            ],
        }
        return shown(json.dumps(record, ensure_ascii=False)) + "\n"

    def _lines(self, language: str) -> Iterator[str]:
        from s2s.text.encodings import probable_encoding

        if self.sentence is not None:
            yield self.sentence
            return
        name = "standard input" if self.input is None else str(self.input)
        try:
            file = sys.stdin.buffer if self.input is None else self.input.open("rb")
        except OSError as error:
            raise BadInput(f"{name}: {error.strerror}") from None
        with file:
            for number, line in enumerate(raw_lines(file), start=1):
                try:
                    yield line.decode("utf-8").strip()
                except UnicodeDecodeError:
                    encoding = probable_encoding(line + b"\n", (language,))
                    hint = encoding and (
                        f" but probably {encoding}; convert it with: "
                        f"iconv -f {encoding} -t UTF-8 FILE > NEW"
                    )
                    raise BadInput(f"{name}: line {number} is not UTF-8{hint}") from None
