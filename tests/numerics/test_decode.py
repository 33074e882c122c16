"""Decoding against the plainest loops, and translation of many as of one."""

import math
import time
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s2s.config import Config, DecodeConfig, ModelConfig, TextConfig
from s2s.decoding.beam import beam_search
from s2s.decoding.constraints import length_limits
from s2s.decoding.greedy import greedy
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.output_layer import OutputLayer
from s2s.decoding.scoring import argmax, length_penalty, top_log_probabilities
from s2s.decoding.search import decode
from s2s.decoding.translation import joined
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.model.directory import ModelDirectory
from s2s.model.seq2seq import Seq2Seq
from s2s.text.alignment import word_links
from s2s.text.sentences import Sentence, split_sentences
from s2s.text.translatable import Translatable
from s2s.text.vocabulary import EOS, PAD, SOS, SPECIALS, UNK, Vocabulary
from tests.support.corpora import Pairs
from tests.support.networks import KINDS, made, some_sources


def one_by_one(model: Seq2Seq, words: list[int], max_length: int) -> list[int]:
    """Greedy decoding of one sentence, as a textbook has it."""
    with torch.no_grad():
        state = model.encode(torch.tensor([words]), torch.tensor([len(words)]))
        said = [SOS]
        while said[-1] != EOS and len(said) <= max_length:
            logits, _, state = model.step(torch.tensor(said[-1:]), state)
            logits[0, [PAD, SOS]] = -torch.inf
            said.append(int(logits[0].argmax()))
    return [word for word in said[1:] if word != EOS]


def ids_of(hypotheses: list[Hypothesis]) -> list[list[int]]:
    """The ids of each hypothesis."""
    return [hypothesis.ids for hypothesis in hypotheses]


def sources(
    directory: ModelDirectory, pairs: Pairs
) -> tuple[list[list[int]], torch.Tensor, torch.Tensor]:
    """The sentences as ids, as a padded batch, and their lengths."""
    ids = directory.source.encode([source for source, _ in pairs])
    lengths = torch.tensor([len(words) for words in ids])
    padded = torch.full((len(ids), int(lengths.max())), PAD)
    for row, words in zip(padded, ids, strict=True):
        row[: len(words)] = torch.tensor(words)
    return ids, padded, lengths


@pytest.mark.parametrize("max_length", [1, 3, 50])
def test_greedy_equals_the_plain_loop(max_length: int, model_dir: Path, pairs: Pairs) -> None:
    directory = ModelDirectory.load(model_dir)
    ids, padded, lengths = sources(directory, pairs)
    together = greedy(directory.model, padded, lengths, DecodeConfig(max_length=max_length))
    assert ids_of(together) == [one_by_one(directory.model, words, max_length) for words in ids]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_greedy_equals_the_plain_loop_for_every_cell(cell: str) -> None:
    torch.manual_seed(1)
    config = ModelConfig.model_validate(
        {"cell": cell, "layers": 2, "embedding_size": 8, "hidden_size": 16}
    )
    model = Seq2Seq(12, 12, config).eval()
    lengths = torch.randint(1, 7, (20,))
    source = torch.randint(4, 12, (20, 6)) * (torch.arange(6) < lengths[:, None])
    wanted = [one_by_one(model, r[:n].tolist(), 9) for r, n in zip(source, lengths, strict=True)]
    how = DecodeConfig(max_length=9, stop_on_repetition=False)
    assert ids_of(greedy(model, source, lengths, how)) == wanted


def test_no_translation_is_longer_than_the_cap(tiny: Config) -> None:
    torch.manual_seed(0)
    words = Vocabulary.learn(["a b c"], TextConfig())
    directory = ModelDirectory.new(tiny, words, words)
    with torch.no_grad():
        directory.model.decoder.output.bias[EOS] = -1e9
    settings = DecodeConfig(max_length=7, stop_on_repetition=False)
    [said] = greedy(directory.model, torch.tensor([[4, 5]]), torch.tensor([2]), settings)
    assert len(said.ids) == 7


def test_the_cap_is_the_configs(model_dir: Path, pairs: Pairs) -> None:
    directory = ModelDirectory.load(model_dir)
    short = Config(**{**dict(directory.config), "decode": DecodeConfig(max_length=2)})
    capped = Translator(ModelDirectory(short, directory.source, directory.target, directory.model))
    for translation in capped.translate([source for source, _ in pairs[:20]]):
        assert len(directory.target.encode([translation])[0]) <= 2


def test_many_sentences_are_translated_as_each_alone(translator: Translator, pairs: Pairs) -> None:
    sentences = [source for source, _ in pairs] + ["", "unheard-of", "I I I I I I I I I I"]
    assert translator.translate(sentences) == [translator.translate([s])[0] for s in sentences]


def test_the_order_of_the_sentences_is_kept(translator: Translator, pairs: Pairs) -> None:
    sentences = [source for source, _ in pairs]
    assert translator.translate(sentences[::-1]) == translator.translate(sentences)[::-1]


@pytest.mark.parametrize("sentence", ["", " ", " \t\n "])
def test_a_sentence_without_words_has_an_empty_translation(
    sentence: str, translator: Translator
) -> None:
    assert translator.translate([sentence]) == [""]
    assert translator.translate(["I see trees.", sentence])[1] == ""


def test_no_sentences_give_no_translations(translator: Translator) -> None:
    assert translator.translate([]) == []


def test_a_row_of_unknown_words_is_still_translated(model_dir: Path) -> None:
    directory = ModelDirectory.load(model_dir)
    assert directory.source.encode(["xyzzy plugh"]) == [[UNK, UNK]]
    longest = directory.config.decode.max_length
    wanted = directory.target.decode(one_by_one(directory.model, [UNK, UNK], longest))
    assert wanted
    assert Translator(directory).translate_rows(["xyzzy plugh"]) == [wanted]


def test_batches_are_counted_to_the_last_sentence(translator: Translator, pairs: Pairs) -> None:
    told: list[int] = []
    sentences = ["", *(source for source, _ in pairs), ""]
    translator.translate(sentences, told.append)
    assert sum(told) == len(sentences)


def test_the_tiny_model_has_learned_something(translator: Translator, pairs: Pairs) -> None:
    translations = translator.translate([source for source, _ in pairs])
    right = sum(t == target for t, (_, target) in zip(translations, pairs, strict=True))
    assert right > len(pairs) / 4


# ---- beam search, sampling, lengths -------------------------------------------------------------


def log_probabilities(model: Seq2Seq, source: list[int], said: list[int]) -> torch.Tensor:
    """Of all words that may follow what was said; the slow way, from the start."""
    with torch.no_grad():
        hidden = model(
            torch.tensor([source]), torch.tensor([len(source)]), torch.tensor([[SOS, *said]])
        )
        logits = model.decoder.output(hidden[0, -1])
        logits[[PAD, SOS]] = -math.inf
        return logits.log_softmax(0)


def plain_beam(
    model: Seq2Seq, source: list[int], settings: DecodeConfig
) -> list[tuple[list[int], float]]:
    """Beam search of one sentence as a textbook has it, without any early stop."""
    live: list[tuple[list[int], float]] = [([], 0.0)]
    ended: list[tuple[list[int], float]] = []
    for step in range(1, settings.max_length + 1):
        candidates = [
            ([*said, word], total + float(value))
            for said, total in live
            for word, value in enumerate(log_probabilities(model, source, said))
            if value > -math.inf
        ]
        candidates.sort(key=lambda candidate: -candidate[1])
        live = []
        for said, total in candidates[: settings.beam - len(ended)]:
            if said[-1] == EOS or step == settings.max_length:
                ended.append((said, total / length_penalty(step, settings.length_penalty)))
            else:
                live.append((said, total))
        if not live:
            break
    ended.sort(key=lambda candidate: -candidate[1])
    return [([w for w in said if w != EOS], score) for said, score in ended[: settings.n_best]]


@pytest.mark.parametrize("name", KINDS)
def test_the_beam_of_width_one_is_greedy(name: str) -> None:
    model = made(name)
    source, lengths = some_sources()
    settings = DecodeConfig(max_length=8)
    wanted = greedy(model, source, lengths, settings, details=True)
    found = beam_search(model, source, lengths, settings, details=True)
    for [one], other in zip(found, wanted, strict=True):
        assert one.ids == other.ids
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
        assert (one.attention is None) == (other.attention is None)
        if one.attention is not None and other.attention is not None:
            torch.testing.assert_close(torch.tensor(one.attention), torch.tensor(other.attention))


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("width", [2, 5])
@pytest.mark.parametrize("name", KINDS)
def test_the_beam_finds_what_a_plain_one_without_early_stop_does(
    name: str, width: int, alpha: float
) -> None:
    model = made(name)
    source, lengths = some_sources()
    settings = DecodeConfig(
        beam=width, n_best=width, max_length=7, length_penalty=alpha, stop_on_repetition=False
    )
    found = beam_search(model, source, lengths, settings)
    for row, hypotheses in enumerate(found):
        wanted = plain_beam(model, source[row, : lengths[row]].tolist(), settings)
        assert [h.ids for h in hypotheses] == [words for words, _ in wanted]
        assert [h.score for h in hypotheses] == pytest.approx([s for _, s in wanted], abs=1e-3)
    # Asking for fewer lets sentences end earlier, and changes nothing about these.
    best = beam_search(model, source, lengths, settings.model_copy(update={"n_best": 1}))
    assert [h.ids for [h] in best] == [hypotheses[0].ids for hypotheses in found]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("name", ["none", "general"])
def test_a_beam_that_holds_everything_is_exhaustive_search(name: str, alpha: float) -> None:
    words, longest = 7, 3  # <unk>, <eos> and three more can be said
    model = made(name, words, sharpness=1.5)
    source, lengths = some_sources(4, words)
    settings = DecodeConfig(beam=200, n_best=5, max_length=longest, length_penalty=alpha)
    sayable = [word for word in range(words) if word not in (PAD, SOS)]
    for row, hypotheses in enumerate(beam_search(model, source, lengths, settings)):
        own = source[row, : lengths[row]].tolist()
        every = []
        for size in range(1, longest + 1):
            for said in product(sayable, repeat=size):
                if EOS in said[:-1] or (said[-1] != EOS and size < longest):
                    continue
                total = sum(
                    float(log_probabilities(model, own, list(said[:at]))[said[at]])
                    for at in range(size)
                )
                every.append((total / length_penalty(size, alpha), [w for w in said if w != EOS]))
        every.sort(reverse=True)
        assert [h.ids for h in hypotheses] == [said for _, said in every[:5]]
        assert [h.score for h in hypotheses] == pytest.approx([s for s, _ in every[:5]], abs=1e-3)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=10)
@given(rows=st.lists(st.integers(0, 11), min_size=1, max_size=12))
def test_any_company_gives_a_sentence_the_same_translation(
    name: str, width: int, rows: list[int]
) -> None:
    model = made(name)
    source, lengths = some_sources()
    how = DecodeConfig(beam=width, n_best=width, max_length=8)
    together = decode(model, source[rows], lengths[rows], how)
    for row, found in zip(rows, together, strict=True):
        [alone] = decode(model, source[row : row + 1, : lengths[row]], lengths[row : row + 1], how)
        assert ids_of(found) == ids_of(alone)


@pytest.mark.parametrize("width", [1, 3])
def test_scores_are_log_probabilities(width: int) -> None:
    model = made("general")
    source, lengths = some_sources()
    how = DecodeConfig(beam=width, n_best=width, max_length=8, length_penalty=0.6)
    for row, found in enumerate(decode(model, source, lengths, how, details=True)):
        own = source[row, : lengths[row]].tolist()
        for hypothesis in found:
            said = hypothesis.ids + [EOS] * (len(hypothesis.scores) - len(hypothesis.ids))
            wanted = [
                float(log_probabilities(model, own, said[:at])[w]) for at, w in enumerate(said)
            ]
            assert hypothesis.scores == pytest.approx(wanted, abs=1e-3)
            total = sum(wanted) / length_penalty(len(wanted), 0.6)
            assert hypothesis.score == pytest.approx(total, abs=1e-3)
            assert hypothesis.attention is not None
            assert len(hypothesis.attention) == len(said)
            for look in hypothesis.attention:
                assert len(look) == len(own)
                assert sum(look) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("eagerness", [-30.0, 30.0])
@pytest.mark.parametrize("width", [1, 3])
def test_lengths_follow_the_source(width: int, eagerness: float) -> None:
    model = made("none")
    with torch.no_grad():
        model.decoder.output.bias[EOS] += eagerness
    source, lengths = some_sources()
    how = DecodeConfig(
        beam=width, min_ratio=0.5, max_ratio=1.5, max_length=7, stop_on_repetition=False
    )
    assert length_limits(torch.tensor([50]), DecodeConfig(max_ratio=1.2, max_length=99))[1] == 60
    shortest, longest = length_limits(lengths, how)
    assert shortest.tolist() == [math.ceil(n / 2) for n in lengths.tolist()]
    assert longest.tolist() == [min(7, math.ceil(n * 1.5)) for n in lengths.tolist()]
    found = [len(h.ids) for [h] in decode(model, source, lengths, how)]
    assert found == (longest if eagerness < 0 else shortest).tolist()


def test_an_unknown_word_can_be_avoided() -> None:
    model = made("none")
    with torch.no_grad():
        model.decoder.output.bias[UNK] += 30
        model.decoder.output.bias[EOS] -= 20
    source, lengths = some_sources()
    said = {w for [h] in decode(model, source, lengths, DecodeConfig()) for w in h.ids}
    assert UNK in said
    how = DecodeConfig(unknown="avoid")
    said = {w for [h] in decode(model, source, lengths, how) for w in h.ids}
    assert said
    assert UNK not in said


def test_what_is_drawn_follows_the_probabilities() -> None:
    model = made("none", sharpness=1.5)
    source, lengths = some_sources(1)
    how = DecodeConfig(temperature=2.0, n_best=4000, max_length=1, seed=1)
    [drawn] = decode(model, source, lengths, how)
    own = source[0, : lengths[0]].tolist()
    wanted = (log_probabilities(model, own, []) / 2).softmax(0)
    first = torch.tensor([h.ids[0] if h.ids else EOS for h in drawn])
    found = torch.bincount(first, minlength=12) / len(drawn)
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0)
    assert [h.score for h in drawn] == sorted((h.score for h in drawn), reverse=True)


def test_only_the_likeliest_words_are_drawn_from() -> None:
    model = made("none", sharpness=1.5)
    source, lengths = some_sources(1)
    shares = log_probabilities(model, source[0, : lengths[0]].tolist(), []).exp()
    order = shares.argsort(descending=True).tolist()
    one = DecodeConfig(temperature=1.0, n_best=500, max_length=1)
    for how, kept in (
        (one.model_copy(update={"top_k": 3}), order[:3]),
        (one.model_copy(update={"top_k": 1}), order[:1]),
        (one.model_copy(update={"top_p": float(shares[order[:2]].sum()) - 1e-4}), order[:2]),
        (one.model_copy(update={"top_p": 1e-6}), order[:1]),
    ):
        [drawn] = decode(model, source, lengths, how)
        assert {h.ids[0] if h.ids else EOS for h in drawn} == set(kept)


def test_the_same_seed_draws_the_same() -> None:
    model = made("general", sharpness=1.5)
    source, lengths = some_sources()

    def drawn(seed: int) -> list[list[list[int]]]:
        how = DecodeConfig(temperature=1.0, n_best=3, seed=seed)
        return [ids_of(found) for found in decode(model, source, lengths, how)]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize("name", KINDS)
def test_one_step_by_the_bare_cell_is_that_of_the_layer(name: str) -> None:
    model = made(name, sharpness=1.0)
    source, lengths = some_sources()
    words = torch.arange(len(source)) % 8 + 4
    with torch.no_grad():  # the bare cell
        logits, _, state = model.step(words, model.encode(source, lengths))
    wanted, _, after = model.step(words, model.encode(source, lengths))  # the layer
    assert wanted.requires_grad
    torch.testing.assert_close(logits, wanted)
    torch.testing.assert_close(state.recurrent, after.recurrent)


@pytest.mark.parametrize("rows", [1, 16, 37])
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_the_output_layer_for_decoding_is_nearly_the_exact_one(
    rows: int, dtype: torch.dtype, off: float
) -> None:
    torch.manual_seed(0)
    exact = torch.nn.Linear(64, 300)
    hidden = torch.randn(rows, 64)
    found, wanted = OutputLayer(exact, dtype)(hidden), exact(hidden)
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, atol=off, rtol=off)


def test_decoding_in_bf16_says_nearly_the_same(translator: Translator, pairs: Pairs) -> None:
    sentences = [source for source, _ in pairs]
    exact, low = translator.translate(sentences), translator.with_settings(precision="bf16")
    same = sum(a == b for a, b in zip(exact, low.translate(sentences), strict=True))
    assert same >= 0.95 * len(pairs)
    scores, rounded = (
        [best.score for [best] in each.hypotheses(sentences)] for each in (translator, low)
    )
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():  # else it is computed in float32
        assert rounded != scores
    assert rounded == pytest.approx(scores, abs=0.05)
    assert translator.translate(sentences) == exact  # which is not changed by it


# ---- texts --------------------------------------------------------------------------------------


def test_a_passage_is_cut_and_put_back_with_its_spacing(translator: Translator) -> None:
    one, two = "I see trees.", "you want bread!"
    first, second = translator.translate([one, two])
    text = f"{one}  {two}\n\n\t{two} {one}\r\n{one}"
    wanted = f"{first}  {second}\n\n\t{second} {first}\r\n{first}"
    short = translator.with_settings(max_source=4)
    told: list[int] = []
    assert short.translate([text, one, f"  {one}\n"], told.append) == [wanted, first, first]
    assert sum(told) == 3


@given(
    text=st.text(st.sampled_from("A b.!?,\u00a0\u2009\u3000\t\n\r\x0b\x85\u2028é(«»\"'…1。")),
    language=st.sampled_from(["en", "fr", "de", "zh", "zh-Hans", "xx", ""]),
)
@example(text="Vitamin A\u00a0. Next.", language="en")
@settings(max_examples=300)
def test_the_pieces_of_any_text_are_the_text(text: str, language: str) -> None:
    cut = split_sentences(text, language)
    assert "".join(cut) == text
    for piece in cut:
        assert Sentence(piece, []).with_whitespace(piece.strip()) == piece
        assert len(piece.strip().splitlines()) <= 1


def test_a_long_sentence_is_translated_in_parts(translator: Translator) -> None:
    parts = ["I see trees, ", "you want bread  ", "and they see "]
    short = translator.with_settings(max_source=4, max_length=9)
    assert [len(each.ids) for each in short.split(["".join(parts)])[0]] == [4, 3, 3]
    each = translator.translate([part.strip() for part in parts])
    wanted = f"{each[0]} {each[1]}  {each[2]}"
    for text in ("".join(parts), f" {''.join(parts)}\n"):
        assert short.translate([text]) == [wanted]
        assert short.translate_rows([text]) == [wanted]
        assert short.with_settings(split_sentences=False).translate([text]) == [wanted]
    [sentences] = short.translate_in_detail(["".join(parts)])
    assert joined(sentences) == wanted
    long = "I see trees " * 500  # is told to its end
    assert translator.translate([long])[0].count("arbres") == 188  # of 8 words each


def test_the_parts_of_a_long_sentence_leave_room_for_their_translations(
    translator: Translator,
) -> None:
    text = "I see trees and you want bread and they see Paris"
    for max_length, number in ((30, 1), (11, 1), (10, 2), (9, 2), (6, 3), (1, 11)):
        short = translator.with_settings(max_source=10, max_length=max_length)
        split = short.split([text])[0]
        assert len(split) == number
        assert "".join(each.text for each in split) == text


def test_what_has_no_word_is_not_cut(translator: Translator) -> None:
    short = translator.with_settings(max_source=3)
    for text in ("https://trees.example/bread,I?see=you&want=we,see", "1, 2, 3, 4, 5; 6 7 8 9"):
        assert short.translate([text]) == [text]
    url = "https://trees.example/bread?I=see"
    assert url in short.translate([f"I see trees {url} and you want bread"])[0]


def test_batches_of_long_sentences_are_smaller(translator: Translator) -> None:
    told: list[int] = []
    small = translator.with_settings(batch_size=4, max_source=10)
    long = "-".join("I" * 13)  # 25 tokens, and no space to cut it at
    small.translate(["I " * 9, *["I see trees."] * 4, long, long], told.append)
    assert told == [0, 0, 4, 1, 1, 1]


def test_each_batch_is_drawn_anew(translator: Translator) -> None:
    drawn = translator.with_settings(temperature=3.0, batch_size=16).translate(
        ["I see trees."] * 32
    )
    assert drawn[:16] != drawn[16:]


def test_a_temperature_needs_no_word_about_the_beam(translator: Translator) -> None:
    drawing = translator.with_settings(beam=5).with_settings(temperature=0.5)
    assert drawing.config.decode.beam == 1


def test_each_sentence_of_a_line_is_translated_separately(translator: Translator) -> None:
    text = "I see trees. you want bread!"
    apart = [" ".join(translator.translate(["I see trees.", "you want bread!"]))]
    whole = [translator.hypotheses([text])[0][0].text]
    assert translator.translate([text]) == apart != whole
    together = translator.with_settings(split_sentences=False)
    assert together.translate([text]) == whole
    assert together.with_settings(max_source=7).translate([text]) == apart
    # Rows of a corpus are what their authors meant to be one.
    assert translator.translate_rows([text]) == whole
    assert translator.with_settings(max_source=7).translate_rows([text]) == apart
    assert translator.with_settings(split_sentences=True).translate_rows([text]) == apart


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\f", "\x85", "\u2028", "\u2029"])
def test_every_line_is_translated_separately(end: str, translator: Translator) -> None:
    lines = ["I see trees", "you want bread"]
    text = end.join(lines)
    for every_sentence in (None, False):
        each = translator.with_settings(split_sentences=every_sentence)
        assert each.translate([text]) == [end.join(translator.translate(lines))]


@pytest.mark.parametrize(
    "text",
    [
        ".", "—", "12:30", "$5", "2024", "🙂", "👩‍👩‍👧", "https://trees.example/bread?I=see.",
        "(www.trees.example),", "I@see.trees", "{trees}", "${I}", "{{ I see }}", "%s", "%(trees)d",
        "%1$s", ":trees:", "@see@trees.example", "#trees", "xyzzy plugh.", "Я вижу.",
    ],
)  # fmt: skip
def test_what_holds_no_word_to_translate_stays(text: str, translator: Translator) -> None:
    assert translator.translate([text]) == [text]
    [see] = translator.translate(["I see trees."])
    assert translator.translate([f"I see trees.\n{text}"]) == [f"{see}\n{text}"]


@pytest.mark.parametrize(
    ("language", "text", "known"),
    [
        ("ru", "Я вижу", True),
        ("ru", "see", False),
        ("el", "βλέπω", True),
        ("ja", "みる", True),
        ("ja", "カメラ", True),
        ("zh-Hant", "看見", True),
        ("sr-Latn", "vidim", True),
        ("sr-Latn", "видим", False),
        ("xx", "видим", True),
        ("en", "see https://a.example", True),
        ("en", "%s sees", True),
        ("en", "100 %d", False),
        ("en", "a:b", True),
    ],
)
def test_a_word_to_translate_is_of_the_languages_script(
    language: str, text: str, known: bool
) -> None:
    translatable = Translatable(language, [*SPECIALS, "a"], len(SPECIALS))
    assert translatable(text, [len(SPECIALS)]) == known
    assert not translatable(text, [UNK])


@pytest.mark.parametrize("piece", ["a@", "{", "{{", "%(", "@@", ":a", "(", "1.", "a@b.", "#a@"])
def test_no_text_takes_long_to_be_seen_through(piece: str) -> None:
    translatable = Translatable("en", [*SPECIALS, "a"], len(SPECIALS))
    began = time.process_time()
    translatable((piece * 10_000)[:10_000], [len(SPECIALS)])
    assert time.process_time() - began < 3


def test_an_unknown_word_is_copied_as_it_was_written() -> None:
    torch.manual_seed(0)
    for units in ({}, {"units": "bpe", "vocabulary_size": 8}):
        text = TextConfig.model_validate(units)
        words = Vocabulary.learn(["a b c , ."], text)
        model = ModelConfig(embedding_size=8, hidden_size=8, attention="dot")
        config = Config(text=text, model=model, decode=DecodeConfig(max_length=3, unknown="copy"))
        directory = ModelDirectory.new(config, words, words)
        directory.model.eval()
        with torch.no_grad():
            directory.model.decoder.output.bias[UNK] = 99
        translator = Translator(directory)
        [[found]] = translator.hypotheses(["Zoé1985"])
        assert found.text == "Zoé1985 Zoé1985 Zoé1985"
        assert found.source_words[-1] == "Zoé1985"
        assert found.finish_reason == "length"
        assert translator.translate_rows(["Zoé1985"]) == [found.text]
        assert translator.translate(["Zoé1985 a"]) == [
            translator.hypotheses(["Zoé1985 a"])[0][0].text
        ]
        [[marked]] = translator.with_settings(unknown="mark").hypotheses(["Zoé1985"])
        assert "<unk>" in marked.text


@pytest.mark.parametrize(
    ("sentence", "written"),
    [("a Zoé b 1985", "Zoé 1985"), ("a Zoé b", "Zoé"), ("a b", "")],
)
def test_without_attention_unknown_words_are_copied_in_their_order(
    sentence: str, written: str
) -> None:
    torch.manual_seed(0)
    words = Vocabulary.learn(["a b c"], TextConfig())
    model = ModelConfig(embedding_size=8, hidden_size=8)
    config = Config(model=model, decode=DecodeConfig(max_length=3, unknown="copy"))
    directory = ModelDirectory.new(config, words, words)
    directory.model.eval()
    with torch.no_grad():
        directory.model.decoder.output.bias[UNK] = 99
    assert Translator(directory).translate([sentence]) == [written]


def test_a_translation_that_is_cut_is_told(translator: Translator) -> None:
    short = translator.with_settings(max_length=3)
    texts = ["I see trees.", "12:30", "I see trees. 12:30.\nyou want bread!"]
    assert translator.translate(texts).incomplete == []
    assert short.translate(texts).incomplete == [0, 2]
    assert {best.finish_reason for [best] in short.hypotheses(texts[:1])} == {"length"}
    assert {best.finish_reason for [best] in translator.hypotheses(texts[:1])} == {"stop"}


@pytest.mark.parametrize(
    ("source", "target", "attended"),
    [
        (["the", "black", "cat", "."], ["le", "chat", "noir", "."], [0, 2, 1, 3]),
        (["the", "bla", "ck", "cat", "."], ["le", "ch", "at", "no", "ir", "."], [0, 3, 3, 1, 2, 4]),
        (["the", "black", "cat", "."], ["le", "chat", "<unk>", "noir", ".", "<eos>"],
         [0, 2, 0, 1, 3, 3]),
    ],
)  # fmt: skip
def test_words_are_linked_to_those_that_they_stand_for(
    source: list[str], target: list[str], attended: list[int]
) -> None:
    links = word_links("the black cat.", source, "le chat noir.", target, attended)
    assert links == [(0, 0, 2), (10, 3, 7), (4, 8, 12), (13, 12, 13)]


def test_parts_of_a_word_are_linked_together() -> None:
    said = ["l'", "école", ",", "grand", "-", "père"]
    links = word_links("a b c", ["a", "b", "c"], "l'école, grand-père", said, [2, 0, 1, 1, 0, 2])
    assert links == [(0, 0, 7), (2, 7, 8), (2, 9, 19)]


def test_without_attention_words_are_linked_by_their_positions() -> None:
    links = word_links("a b c d", ["a", "b", "c", "d"], "e f", ["e", "f"], None)
    assert links == [(2, 0, 1), (6, 2, 3)]
    assert word_links("", [], "e", ["e"], None) == []


def test_hypotheses_tell_all_that_is_known(translator: Translator) -> None:
    wide = translator.with_settings(beam=4, n_best=3)
    [found, [nothing]] = wide.hypotheses(["I see trees.", " "])
    assert len(found) == 3
    assert [t.score for t in found] == sorted((t.score for t in found), reverse=True)
    assert found[0].text == wide.translate(["I see trees."])[0]
    assert found[0].words[-1] == "<eos>"
    assert len(found[0].words) == len(found[0].word_scores)
    assert found[0].source_words == ["I", "see", "trees", "."]
    assert found[0].attention is None
    assert nothing.text == ""
    assert nothing.words == []


@pytest.mark.parametrize(
    "settings",
    [
        {"beam": 0},
        {"n_best": 2},
        {"top_k": 3},
        {"top_p": 0.5},
        {"beam": 2, "temperature": 1.0},
        {"temperature": 0.0},
        {"unknown": "guess"},
    ],
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, object], translator: Translator
) -> None:
    with pytest.raises(BadInput):
        translator.with_settings(**settings)


@pytest.mark.parametrize("words", [1, 5, 127, 128, 129, 256, 1000, 8086])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_argmax_is_the_first_of_the_greatest(words: int, kind: torch.dtype) -> None:
    """In bf16 many are equal."""
    torch.manual_seed(words)
    logits = torch.randn(33, words).to(kind)
    logits[:, 0] = -torch.inf
    logits[3, -1] = logits[4, words // 2] = 9.0
    wanted = [row.index(max(row)) for row in logits.tolist()]
    assert argmax(logits).tolist() == wanted


@pytest.mark.parametrize("words", [12, 90, 1000, 8003])
@pytest.mark.parametrize("count", [1, 5, 16])
def test_the_likeliest_tokens_are_those_of_the_softmax(words: int, count: int) -> None:
    logits = torch.randn(7, words, generator=torch.Generator().manual_seed(words))
    logits[:, [PAD, SOS]] = -torch.inf
    logits[0, words - 3 :] = torch.tensor([9.0, 11.0, 10.0])  # beyond the last whole group
    logits[1, 4::20] = 5.0  # all of the greatest are equal
    wanted = logits.log_softmax(1)
    size = min(count, words)
    values, tokens = top_log_probabilities(logits.clone(), count)
    torch.testing.assert_close(values, wanted.topk(size).values)
    torch.testing.assert_close(wanted.gather(1, tokens), values)
    assert all(len(set(row)) == size for row in tokens.tolist())
