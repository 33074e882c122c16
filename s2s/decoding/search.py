"""Greedy decoding, sampling and beam search over the model's one `step`.

Shapes: B sentences, K hypotheses of each, S source tokens, T target tokens, V target words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.choice import IMPOSSIBLE, forbid, likeliest, penalty
from s2s.decoding.recorded import Sentences, on_card
from s2s.model.seq2seq import Memory, Seq2Seq, State
from s2s.text.vocabulary import EOS, SOS

# Chooses words (N,) by logits (N, V).
Choose = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Hypothesis:
    """A translation as the model gives it."""

    words: list[int]  # without `<sos>` and `<eos>`
    scores: list[float]  # nats, the log-probability of each word, and of `<eos>` if it was said
    score: float  # their sum, divided by the length penalty: hypotheses are ranked by it
    looked: list[int] | None  # of each of the scored words, the source word that weighed most
    attention: list[list[float]] | None  # of each of them, a weight for each source word


def decode(
    model: Seq2Seq,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool = False,
) -> list[list[Hypothesis]]:
    """The `n_best` translations of each sentence, best first, in the way of the settings.

    Args:
        source: (B, S) tokens, padded at the end.
        source_lengths: (B,) true lengths, each at least 1, on the CPU.
        details: without them, greedy hypotheses have no scores and none has attention, but for
            what `looked` says where unknown words are copied by it.
    """
    if settings.temperature is not None:
        return sample(model, source, source_lengths, settings, details)
    if settings.beam == 1:
        return [[best] for best in greedy(model, source, source_lengths, settings, details)]
    return beam(model, source, source_lengths, settings, details)


@torch.inference_mode()
def greedy(
    model: Seq2Seq,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool = False,
) -> list[Hypothesis]:
    """The likeliest next word, again and again, until `<eos>` or the longest length."""
    if source.is_cuda and not details:
        return _greedy_on_card(model, source, source_lengths, settings)
    return _word_by_word(model, source, source_lengths, settings, details, likeliest)


def _greedy_on_card(
    model: Seq2Seq, source: Tensor, source_lengths: Tensor, settings: DecodeConfig
) -> list[Hypothesis]:
    """The same without scores, by steps that are recorded."""
    shortest, longest = bounds(source_lengths, settings)
    sentences = Sentences(source, source_lengths, shortest, longest)
    greedy_on_card, _ = on_card(model, source.device)
    said, looked = (
        part.cpu().numpy() for part in greedy_on_card.decode(model, sentences, settings)
    )
    sizes = np.where((said == EOS).any(1), (said == EOS).argmax(1), longest.numpy())
    ended = np.minimum(sizes + 1, longest.numpy())
    looks = settings.unknown == "copy" and model.decoder.attention is not None
    return [
        Hypothesis(
            said[row, :size].tolist(), [], 0.0, looked[row, :seen].tolist() if looks else None, None
        )
        for row, (size, seen) in enumerate(zip(sizes.tolist(), ended.tolist(), strict=True))
    ]


@torch.inference_mode()
def sample(
    model: Seq2Seq,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool = False,
) -> list[list[Hypothesis]]:
    """Words drawn by their probabilities: `n_best` independent translations, best first.

    `temperature` divides the logits; of the words, only the `top_k` likeliest are left, and of
    these the likeliest that together have `top_p` of the probability (Holtzman et al., 2020,
    https://arxiv.org/abs/1904.09751).
    """
    random = torch.Generator(source.device).manual_seed(settings.seed)

    def draw(logits: Tensor) -> Tensor:
        left = logits / (settings.temperature or 1.0)
        if settings.top_k is not None:
            least = left.topk(min(settings.top_k, left.shape[1])).values[:, -1:]  # (N, 1)
            left = left.masked_fill(left < least, IMPOSSIBLE)
        if settings.top_p is not None:
            shares, words = left.softmax(1).sort(descending=True)  # (N, V)
            before = shares.cumsum(1) - shares  # (N, V), what the likelier words have
            beyond = torch.zeros_like(before, dtype=torch.bool)
            beyond.scatter_(1, words, before >= settings.top_p)
            left = left.masked_fill(beyond, IMPOSSIBLE)
        return torch.multinomial(left.softmax(1), 1, generator=random)[:, 0]

    each = settings.n_best
    drawn = _word_by_word(
        model,
        source.repeat_interleave(each, 0),
        source_lengths.repeat_interleave(each),
        settings,
        details or each > 1,
        draw,
    )
    groups = [drawn[start : start + each] for start in range(0, len(drawn), each)]
    return [sorted(group, key=lambda h: -h.score) for group in groups]


def _word_by_word(
    model: Seq2Seq,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool,
    choose: Choose,
) -> list[Hypothesis]:
    """One hypothesis for each sentence, by one choice after the other."""
    shortest, longest = bounds(source_lengths, settings)
    steps = int(longest.max())
    device, count = source.device, len(source)
    state = model.encode(source, source_lengths)
    said = torch.full((count, steps), EOS, device=device)  # (B, T)
    scores = torch.zeros(count, steps, device=device) if details else None  # (B, T)
    looks = _Looks.of(state.memory, (steps, count), settings, details)
    rows = torch.arange(count, device=device)  # sentences that go on, and their rows
    words = torch.full((count,), SOS, device=device)
    shortest, longest = shortest.to(device), longest.to(device)
    limited = bool((longest < steps).any())
    for step in range(steps):
        logits, weights, state = model.step(words, state)  # (rows, V), (rows, S)
        forbid(logits, step < shortest[rows] if settings.min_ratio else None, settings)
        words = choose(logits)  # (rows,)
        said[rows, step] = words
        if scores is not None:
            chosen = logits.gather(1, words[:, None])[:, 0]
            highest = logits.amax(1, keepdim=True)
            sums = logits.sub_(highest).exp_().sum(1)
            scores[rows, step] = chosen - highest[:, 0] - sums.log()
        if looks is not None and weights is not None:
            looks.put((step, rows), weights)
        goes_on = words != EOS
        if limited:
            goes_on &= longest[rows] > step + 1
        if not goes_on.all():
            # Who is done leaves: the others' steps become cheaper.
            left = goes_on.nonzero()[:, 0]
            if not len(left):
                break
            rows, words, state = rows[left], words[left], state.taken(left)
    lengths = source_lengths.tolist()
    told = None if scores is None else scores.tolist()
    seen = None if looks is None else looks.on_the_cpu()
    made = []
    for row, sentence in enumerate(said.tolist()):
        size = sentence.index(EOS) if EOS in sentence else int(longest[row])
        ended = min(size + 1, int(longest[row]))  # positions with a score
        own = [] if told is None else told[row][:ended]
        looked, attention = None, None
        if seen is not None:
            looked, attention = seen.at([(step, row) for step in range(ended)], lengths[row])
        score = sum(own) / penalty(len(own), settings.length_penalty) if own else 0.0
        made.append(Hypothesis(sentence[:size], own, score, looked, attention))
    return made


@torch.inference_mode()
def beam(
    model: Seq2Seq,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool = False,
) -> list[list[Hypothesis]]:
    """The best translations that a search of `beam` hypotheses at a time finds, best first.

    Hypotheses that end give up their place in the beam. What has ended is ranked by the sum of its
    log-probabilities over the length penalty of Wu et al. (2016, https://arxiv.org/abs/1609.08144,
    equation 14, without coverage). A sentence is done when no beginning that is left can end better
    than its `n_best` hypotheses so far: log-probabilities only fall, and the penalty is largest at
    the greatest length, so stopping then changes nothing.

    The beam of width 1 is greedy decoding.
    """
    if source.is_cuda and not details:
        return _beam_on_card(model, source, source_lengths, settings)
    width, alpha, device = settings.beam, settings.length_penalty, source.device
    shortest, longest = (bound.to(device) for bound in bounds(source_lengths, settings))
    steps, count = int(longest.max()), len(source)
    state = _repeated(model.encode(source, source_lengths), width)
    shape = (steps, count, width)
    said = torch.full(shape, EOS, device=device)
    parents = torch.zeros(shape, dtype=torch.long, device=device)
    scores = torch.zeros(shape, device=device)
    looks = _Looks.of(state.memory, shape, settings, details)
    # The ended hypotheses: score over penalty, last step, and the place that they had in its beam.
    ended = torch.full((count, width), IMPOSSIBLE, device=device)
    ends = torch.zeros(2, count, width, dtype=torch.long, device=device)
    done = torch.zeros(count, dtype=torch.long, device=device)  # how many have ended

    rows = torch.arange(count, device=device)  # (R,) sentences that go on
    total = torch.full((count, width), IMPOSSIBLE, device=device)  # of the beginnings, nats
    total[:, 0] = 0.0  # they are all the same yet
    words = torch.full((count * width,), SOS, device=device)
    farthest = penalty(longest.double(), alpha).float()
    ranks = torch.arange(width, device=device)
    for step in range(steps):
        logits, weights, state = model.step(words, state)  # (R K, V), (R K, S)
        early = step < shortest[rows].repeat_interleave(width) if settings.min_ratio else None
        forbid(logits, early, settings)
        # The best of all are among the best of each, so the whole softmax is never made.
        kept = min(width, logits.shape[1])
        values, candidates = logits.topk(kept, dim=1)  # (R K, K')
        highest = values[:, :1]
        # In place, as the logits are not needed any more: new memory of their size costs more than
        # the sums.
        values = values - highest - logits.sub_(highest).exp_().sum(1, keepdim=True).log()
        sums = (total.flatten()[:, None] + values).view(len(rows), -1)  # (R, K K')
        best, places = sums.topk(width, dim=1)  # (R, K)
        parent = places // kept  # (R, K), whose beginning is continued
        word = candidates.view(len(rows), -1).gather(1, places)
        said[step, rows] = word
        parents[step, rows] = parent
        scores[step, rows] = values.view(len(rows), -1).gather(1, places)
        if looks is not None and weights is not None:
            seen = weights.view(len(rows), width, -1)
            seen = seen.gather(1, parent[:, :, None].expand(-1, -1, seen.shape[2]))
            looks.put((step, rows), seen)

        real = (best > IMPOSSIBLE) & (ranks < (width - done[rows])[:, None])
        last = (longest[rows] == step + 1)[:, None]
        ending = real & ((word == EOS) | last)
        # Each takes the next free place among the ended ones of its sentence.
        free = done[rows][:, None] + ending.cumsum(1) - 1  # (R, K)
        row, rank = ending.nonzero(as_tuple=True)
        place = (rows[row], free[row, rank])
        ended[place] = best[row, rank] / penalty(step + 1, alpha)
        ends[0][place] = step
        ends[1][place] = rank
        done[rows] += ending.sum(1)
        total = best.masked_fill(~real | ending, IMPOSSIBLE)  # (R, K)

        hope = total.max(1).values / farthest[rows]  # (R,) no beginning can end better
        worst = ended[rows].topk(min(settings.n_best, width)).values[:, -1]
        goes_on = hope > worst
        moved = (parent + width * torch.arange(len(rows), device=device)[:, None]).flatten()
        words = word.flatten()
        if goes_on.all():
            state = state.moved(moved)
            continue
        left = goes_on.nonzero()[:, 0]
        if not len(left):
            break
        places = (left[:, None] * width + ranks).flatten()
        state = state.moved(moved).taken(left, width)
        rows, words, total = rows[left], words[places], total[left]
    return _traced(said, parents, scores, looks, ended, ends, source_lengths, settings)


def _beam_on_card(
    model: Seq2Seq, source: Tensor, source_lengths: Tensor, settings: DecodeConfig
) -> list[list[Hypothesis]]:
    """The same without the weights of attention, by steps that are recorded."""
    sentences = Sentences(source, source_lengths, *bounds(source_lengths, settings))
    _, beam_on_card = on_card(model, source.device)
    found = beam_on_card.search(model, sentences, settings)
    looks = None
    if settings.unknown == "copy" and model.decoder.attention is not None:
        looks = _Looks(found.looked, None)
    parts = (found.said, found.parents, found.scores, looks, found.ended, found.ends)
    return _traced(*parts, source_lengths, settings)


def _traced(
    said: Tensor,
    parents: Tensor,
    scores: Tensor,
    looks: "_Looks | None",
    ended: Tensor,
    ends: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
) -> list[list[Hypothesis]]:
    """The ended hypotheses, each followed back from its last word to its first."""
    said_at, parent_at, score_at = (part.cpu().numpy() for part in (said, parents, scores))
    seen = None if looks is None else looks.on_the_cpu()
    ended_at, (step_at, rank_at) = ended.cpu().numpy(), ends.cpu().numpy()
    lengths = source_lengths.tolist()
    found = []
    for row, totals in enumerate(ended_at):
        best = np.argsort(-totals, kind="stable")[: settings.n_best]
        hypotheses = []
        for place in best[totals[best] > IMPOSSIBLE]:
            rank, path = int(rank_at[row, place]), []
            for step in range(int(step_at[row, place]), -1, -1):
                path.append((step, row, rank))
                rank = int(parent_at[step, row, rank])
            path.reverse()
            words = [int(said_at[at]) for at in path]
            looked, attention = None, None
            if seen is not None:
                looked, attention = seen.at(path, lengths[row])
            hypotheses.append(
                Hypothesis(
                    words[:-1] if words[-1] == EOS else words,
                    [float(score_at[at]) for at in path],
                    float(totals[place]),
                    looked,
                    attention,
                )
            )
        found.append(hypotheses)
    return found


def bounds(source_lengths: Tensor, settings: DecodeConfig) -> tuple[Tensor, Tensor]:
    """The fewest and most words (B,) of translations of sources of lengths (B,)."""
    longest = torch.full_like(source_lengths, settings.max_length)
    if settings.max_ratio is not None:
        most = _times(source_lengths, settings.max_ratio).clamp_min(1)
        longest = torch.minimum(longest, most)
    shortest = _times(source_lengths, settings.min_ratio)
    return torch.minimum(shortest, longest), longest


def _times(lengths: Tensor, ratio: float) -> Tensor:
    """Lengths (B,) times a ratio, rounded up, but for what the rounding of floats adds."""
    return (lengths.double() * ratio - 1e-9).ceil().long()


@dataclass(frozen=True)
class _Looks:
    """What each hypothesis looked at in each step: the heaviest source word, and all weights."""

    heaviest: Tensor  # (T, *hypotheses)
    weights: Tensor | None  # (T, *hypotheses, S)

    @classmethod
    def of(
        cls,
        memory: Memory | None,
        shape: tuple[int, ...],
        settings: DecodeConfig,
        details: bool,
    ) -> "_Looks | None":
        """Room for them, of shape (T, *hypotheses), if there is attention and someone will ask."""
        if memory is None or not (details or settings.unknown == "copy"):
            return None
        heaviest = torch.zeros(shape, dtype=torch.long, device=memory.values.device)
        size = memory.values.shape[1]
        return cls(heaviest, memory.values.new_zeros(*shape, size) if details else None)

    def put(self, at: tuple[int, Tensor], weights: Tensor) -> None:
        """Keep the weights (rows, any, S) of a step and its rows."""
        self.heaviest[at] = weights.max(dim=-1).indices
        if self.weights is not None:
            self.weights[at] = weights

    def on_the_cpu(self) -> "_Looks":
        """The same, to be read."""
        weights = None if self.weights is None else self.weights.cpu()
        return _Looks(self.heaviest.cpu(), weights)

    def at(
        self, path: Sequence[tuple[int, ...]], source_length: int
    ) -> tuple[list[int], list[list[float]] | None]:
        """Of some steps of one hypothesis: the heaviest words, and weights if they were kept."""
        heaviest = self.heaviest.numpy()
        looked = [int(heaviest[place]) for place in path]
        if self.weights is None:
            return looked, None
        weights = self.weights.numpy()
        return looked, [weights[place][:source_length].tolist() for place in path]


def _repeated(state: State, times: int) -> State:
    """The state with so many hypotheses of each sentence, all alike."""
    each = torch.arange(state.cells[0].shape[1], device=state.cells[0].device)
    return state.moved(each.repeat_interleave(times))
