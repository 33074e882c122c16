"""Which target tokens translate which source tokens, learned from the pairs of a corpus.

By Model 1 of Brown et al. (1993, https://aclanthology.org/J93-2003): every target token of a pair
is the translation of one of its source tokens, and which one is estimated by expectation
maximisation. It knows nothing of the model, and so takes seconds where the model's own attention
would take a pass over the corpus (docs/decisions/0042-shortlists.md).

Shapes: P pairs, C cells (a source and a target token of one pair), L links (different cells).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s.decoding.shortlist import STORED, Shortlist, vocabularies_hash
from s2s.text.ragged import Ragged
from s2s.text.vocabulary import SPECIALS, Vocabulary

Ids = NDArray[np.int64]

_ITERATIONS = 5

# Cells to learn from: about a million pairs of 5 tokens, or 30,000 of 30, and 2 GB of memory.
_CELLS = 30_000_000


def learn_shortlist(
    sources: Ragged, targets: Ragged, source: Vocabulary, target: Vocabulary
) -> Shortlist:
    """Return the shortlist that pairs of tokens suggest.

    Of a large corpus, as many pairs are used as memory allows, drawn from a fixed seed.
    """
    frequent = np.bincount(targets.values, minlength=len(target))
    pairs = _drawn(sources, targets)
    source_tokens, target_tokens, counts = link_counts(sources.select(pairs), targets.select(pairs))
    known = (source_tokens >= len(SPECIALS)) & (target_tokens >= len(SPECIALS))
    source_tokens, target_tokens, counts = (
        source_tokens[known],
        target_tokens[known],
        counts[known],
    )
    # By source token, and then by falling counts.
    order = np.lexsort((target_tokens, -counts, source_tokens))
    source_tokens, target_tokens = source_tokens[order], target_tokens[order]
    starts = np.searchsorted(source_tokens, np.arange(len(source) + 1))
    ranks = np.arange(len(source_tokens)) - starts[source_tokens]
    kept = ranks < STORED
    by_frequency = np.argsort(-frequent[len(SPECIALS) :], kind="stable") + len(SPECIALS)
    return Shortlist(
        likely=target_tokens[kept].astype(np.int32),
        offsets=np.searchsorted(source_tokens[kept], np.arange(len(source) + 1)).astype(np.int64),
        frequent=by_frequency.astype(np.int32),
        vocabularies=vocabularies_hash(source, target),
    )


def link_counts(sources: Ragged, targets: Ragged) -> tuple[Ids, Ids, NDArray[np.float64]]:
    """Return how often source tokens are expected to be translated by target tokens.

    Args:
        sources: the sentences of P pairs.
        targets: their translations.

    Returns:
        Source tokens, target tokens and expected counts of the links, each (L,).
    """
    # Each target token of a pair stands in one cell with each source token of it.
    per_target = np.repeat(sources.lengths, targets.lengths)  # cells of each target token
    ends = per_target.cumsum()
    of_target = np.repeat(np.arange(len(per_target)), per_target)  # (C,)
    starts = np.repeat(sources.offsets[:-1], targets.lengths)  # of each target token's sources
    places = np.arange(len(of_target)) - np.repeat(ends - per_target - starts, per_target)  # (C,)
    width = int(targets.values.max(initial=0)) + 1
    keys = sources.values[places].astype(np.int64) * width + targets.values[of_target]  # (C,)
    links, cells = np.unique(keys, return_inverse=True)  # (L,), (C,)
    source_tokens, target_tokens = links // width, links % width
    counts: NDArray[Any] = np.ones(len(links))  # (L,)
    for _ in range(_ITERATIONS):
        totals = np.bincount(source_tokens, counts)
        chances = (counts / totals[source_tokens])[cells]  # (C,)
        sums = np.bincount(of_target, chances)
        counts = np.bincount(cells, chances / sums[of_target], minlength=len(links))
    return source_tokens, target_tokens, counts


def _drawn(sources: Ragged, targets: Ragged) -> Ids:
    """Return the pairs to learn from, in rising order."""
    order = np.random.default_rng(0).permutation(len(sources))
    cells = (sources.lengths * targets.lengths)[order].cumsum()
    return np.sort(order[: max(1, int(np.searchsorted(cells, _CELLS, side="right")))])
