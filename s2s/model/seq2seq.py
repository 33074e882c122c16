"""The encoder–decoder: of Sutskever et al. (2014), and with attention of Luong et al. (2015).

https://arxiv.org/abs/1409.3215 and https://arxiv.org/abs/1508.04025.

Shapes: B sentences, K hypotheses of each (one in training), N = B × K, grouped by sentence;
S source tokens, T target tokens, Q queries of a sentence (K × T), E embedding size, H hidden size,
L layers, V target vocabulary; R = E where the output layer's weights are those of the embedding,
else H.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from s2s.config import ModelConfig
from s2s.model.adaptive import AdaptiveOutput
from s2s.model.dropout import LockedDropout
from s2s.model.recurrent import STATE_PARTS, RecurrentStack, RecurrentState
from s2s.text.vocabulary import PAD


@dataclass(frozen=True)
class Memory:
    """What attention reads of the source; it never changes while a sentence is decoded."""

    values: Tensor  # (B, S, H), the encoder's outputs
    keys: Tensor  # (B, S, H), what queries are compared with
    padding: Tensor  # (B, S) bool, True where there is no token

    def map(self, change: Callable[[Tensor], Tensor]) -> "Memory":
        """Return the memory of changed tensors; keys that are the values stay the values."""
        values = change(self.values)
        keys = values if self.keys is self.values else change(self.keys)
        return Memory(values, keys, change(self.padding))

    def tensors(self) -> list[Tensor]:
        """Return the distinct tensors; the first dimension of each is B, the second S."""
        keys = [] if self.keys is self.values else [self.keys]
        return [self.values, *keys, self.padding]


@dataclass(frozen=True)
class Groups:
    """The hypotheses of each sentence, where sentences have different numbers of them.

    Then N is the sum of those numbers, and K the greatest of them. Attention is computed for
    B × K queries, of which those beyond a sentence's own hypotheses are not used.
    """

    rows: Tensor  # (B, K) the hypothesis of each query; any one where the sentence has fewer
    places: Tensor  # (N,) place of each hypothesis among the B × K queries

    @classmethod
    def of_sizes(cls, sizes: Tensor) -> "Groups":
        """Return the groups of so many hypotheses (B,), at least one each, on the CPU."""
        ranks = torch.arange(int(sizes.max()))  # (K,)
        starts = sizes.cumsum(0) - sizes  # (B,)
        rows = starts[:, None] + torch.minimum(ranks, sizes[:, None] - 1)  # (B, K)
        return cls(rows, (ranks < sizes[:, None]).flatten().nonzero()[:, 0])

    def to(self, device: torch.device) -> "Groups":
        """Return the groups on a device."""
        return Groups(self.rows.to(device), self.places.to(device))


@dataclass(frozen=True)
class Candidates:
    """The target tokens that hypotheses may have, where they may not have all."""

    sets: Tensor  # (N,) number of the set of each hypothesis's tokens
    tokens: Tensor  # (C,) the token of each logit of the step before


@dataclass(frozen=True)
class DecoderState:
    """All that the decoder carries from one step to the next."""

    recurrent: RecurrentState
    memory: Memory | None = None  # with attention
    input_feed: Tensor | None = None  # (N, R), with input feeding: the last step's hidden vector
    groups: Groups | None = None  # for a single step; None: all sentences have as many hypotheses
    candidates: Candidates | None = None  # with a shortlist

    def reorder(self, rows: Tensor) -> "DecoderState":
        """Return the state in which each hypothesis continues another one of its sentence.

        Args:
            rows: (N',) the hypothesis that each continues.
        """
        input_feed = None if self.input_feed is None else self.input_feed[rows]
        recurrent = tuple(part[:, rows] for part in self.recurrent)  # each (L, N', H)
        candidates = self.candidates
        if candidates is not None:
            candidates = replace(candidates, sets=candidates.sets[rows])
        return DecoderState(recurrent, self.memory, input_feed, candidates=candidates)

    def select(self, sentences: Tensor, hypotheses: int = 1) -> "DecoderState":
        """Return the state of some sentences.

        Args:
            sentences: (B',) their places among the B sentences.
            hypotheses: K, of each sentence.
        """
        memory = None if self.memory is None else self.memory.map(lambda part: part[sentences])
        ranks = torch.arange(hypotheses, device=sentences.device)  # (K,)
        rows = (sentences[:, None] * hypotheses + ranks).flatten()  # (B' K,)
        return replace(self, memory=memory).reorder(rows)

    def tokens_of(self, places: Tensor) -> Tensor:
        """Return the target tokens of places among the logits of the step before."""
        return places if self.candidates is None else self.candidates.tokens[places]

    def step_tensors(self) -> list[Tensor]:
        """Return what a step hands on, as views whose first dimension is N."""
        input_feed = [] if self.input_feed is None else [self.input_feed]
        sets = [] if self.candidates is None else [self.candidates.sets]
        return [part.transpose(0, 1) for part in self.recurrent] + input_feed + sets

    def tensors(self) -> list[Tensor]:
        """Return all distinct tensors, as views whose first dimension is N, or B of the memory."""
        return self.step_tensors() + ([] if self.memory is None else self.memory.tensors())


class Encoder(nn.Module):
    """Reads the source; its last state is the context vector."""

    def __init__(self, vocab_size: int, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding_size, padding_idx=PAD)
        self.recurrent = RecurrentStack(
            config.embedding_size, config, bidirectional=config.bidirectional
        )
        self.dropout, self.word_dropout = LockedDropout(config.dropout), config.word_dropout
        self.reverse_source = config.reverse_source
        # Halves that know one direction each become a state that knows both (Bahdanau et al., 2015,
        # https://arxiv.org/abs/1409.0473, appendix A.2.2).
        self.bridge = nn.ModuleList(
            nn.Linear(config.hidden_size, config.hidden_size)
            for _ in range(STATE_PARTS[config.cell] if config.bidirectional else 0)
        )

    def forward(
        self, source: Tensor, lengths: Tensor
    ) -> tuple[Tensor | PackedSequence, RecurrentState]:
        """Encode source tokens (B, S) of lengths (B,).

        Returns:
            Outputs in the form and order in which the layers read, for `restore_order`; and the
            context vector, each part (L, B, H).
        """
        if self.reverse_source:
            source = source.gather(1, reversed_positions(source, lengths))
        word_dropout = self.word_dropout if self.training else 0.0
        embedded = _embed(self.embedding, source, word_dropout)  # (B, S, E)
        outputs, state = self.recurrent.encode(self.dropout(embedded), lengths)
        if self.bridge:
            state = tuple(
                torch.tanh(bridge(part)) for bridge, part in zip(self.bridge, state, strict=True)
            )
        return outputs, state

    def restore_order(
        self, outputs: Tensor | PackedSequence, source: Tensor, lengths: Tensor
    ) -> Tensor:
        """Return outputs (B, S, H), each at the position of the source token that it is of."""
        if isinstance(outputs, PackedSequence):
            padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.shape[1])
        else:
            padded = outputs
        if not self.reverse_source:
            return padded
        return padded.gather(1, reversed_positions(source, lengths)[:, :, None].expand_as(padded))


class Attention(nn.Module):
    """Weighs the source tokens by how well their keys fit the decoder's query.

    `dot` and `general` are Luong's scores, `additive` is Bahdanau's; all are used as Luong does,
    after the recurrent layers, so that training needs no loop over the tokens.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        additive = config.attention == "additive"
        self.key = nn.Linear(hidden, hidden, bias=False) if config.attention != "dot" else None
        self.query = nn.Linear(hidden, hidden, bias=False) if additive else None
        self.energy = nn.Linear(hidden, 1, bias=False) if additive else None

    def memory(self, values: Tensor, padding: Tensor) -> Memory:
        """Make the memory, once for each sentence, of values (B, S, H) and padding (B, S)."""
        return Memory(values, values if self.key is None else self.key(values), padding)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return context vectors (B, Q, H) and weights (B, Q, S) for queries (B, Q, H)."""
        if self.query is None or self.energy is None:
            scores = queries @ memory.keys.to(queries.dtype).mT  # (B, Q, S)
        else:
            sums = self.query(queries)[:, :, None] + memory.keys[:, None]  # (B, Q, S, H)
            scores = self.energy(torch.tanh(sums))[..., 0]  # (B, Q, S)
        scores = scores.float().masked_fill(memory.padding[:, None], -torch.inf)
        weights = scores.softmax(dim=2)  # (B, Q, S)
        return weights.to(queries.dtype) @ memory.values.to(queries.dtype), weights


class Decoder(nn.Module):
    """Starts from the encoder's last state and predicts the target token by token."""

    def __init__(self, vocab_size: int, config: ModelConfig) -> None:
        super().__init__()
        embedding, hidden = config.embedding_size, config.hidden_size
        output_size = hidden if config.tie == "none" else embedding  # R
        self.embedding = nn.Embedding(vocab_size, embedding, padding_idx=PAD)
        feed_size = output_size if config.input_feeding else 0
        self.recurrent = RecurrentStack(embedding + feed_size, config)
        attends = config.attention != "none"
        self.attention = Attention(config) if attends else None
        self.readout = (
            nn.Linear(2 * hidden if attends else hidden, output_size)
            if attends or output_size != hidden
            else None
        )
        self.dropout, self.word_dropout = LockedDropout(config.dropout), config.word_dropout
        self.input_feeding = config.input_feeding
        self.output: nn.Linear | AdaptiveOutput
        if config.output == "adaptive":
            self.output = AdaptiveOutput(output_size, vocab_size, config.frequent_words)
        else:
            self.output = nn.Linear(output_size, vocab_size)
            if config.tie != "none":
                self.output.weight = self.embedding.weight

    def initial_state(self, context: RecurrentState, memory: Memory | None) -> DecoderState:
        """Return the state before the first token, of a context vector, each part (L, N, H)."""
        zeros = context[0].new_zeros(context[0].shape[1], self.output.in_features)  # (N, R)
        return DecoderState(context, memory, zeros if self.input_feeding else None)

    def forward(
        self, target_in: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Read target tokens (N, T).

        Returns:
            Hidden vectors (N, T, R), of which `output` makes the logits of the next tokens; with
            attention, the weights (N, T, S) of the source tokens; the state after the last token.
        """
        word_dropout = self.word_dropout if self.training else 0.0
        embedded = self.dropout(_embed(self.embedding, target_in, word_dropout))  # (N, T, E)
        if state.input_feed is None:
            hidden, recurrent = self.recurrent(embedded, state.recurrent)  # (N, T, H)
            hidden, weights = self._attend(hidden, state)  # (N, T, R), (N, T, S)
            return self.dropout(hidden), weights, DecoderState(recurrent, state.memory)
        return self._forward_with_feed(embedded, state, state.input_feed)

    def _forward_with_feed(
        self, embedded: Tensor, state: DecoderState, input_feed: Tensor
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Read embedded tokens (N, T, E) one by one, each beside the hidden vector before it."""
        steps, steps_weights, recurrent = [], [], state.recurrent
        ones = torch.ones_like(recurrent[0][:1].transpose(0, 1))  # (N, 1, H)
        masks = [self.dropout.draw_mask(ones) for _ in self.recurrent.layers[1:]]
        for token in embedded.unbind(1):
            inputs = torch.cat([token, input_feed.to(token.dtype)], dim=1)[:, None]  # (N, 1, E + R)
            hidden, recurrent = self.recurrent(inputs, recurrent, masks)  # (N, 1, H)
            hidden, weights = self._attend(hidden, state)  # (N, 1, R), (N, 1, S)
            input_feed = hidden[:, 0]  # (N, R)
            steps.append(input_feed)
            if weights is not None:
                steps_weights.append(weights)
        hidden = self.dropout(torch.stack(steps, dim=1))  # (N, T, R)
        weights = torch.cat(steps_weights, dim=1) if steps_weights else None  # (N, T, S)
        return hidden, weights, DecoderState(recurrent, state.memory, input_feed)

    def _attend(self, hidden: Tensor, state: DecoderState) -> tuple[Tensor, Tensor | None]:
        """Return hidden vectors (N, T, R) and weights (N, T, S) of layers' outputs (N, T, H)."""
        memory, groups, weights = state.memory, state.groups, None
        if self.attention is not None and memory is not None:
            if groups is None:
                queries = hidden.reshape(len(memory.values), -1, hidden.shape[2])  # (B, K × T, H)
            else:
                queries = hidden[:, 0][groups.rows]  # (B, K, H)
            context, weights = self.attention(queries, memory)  # (B, Q, H), (B, Q, S)
            if groups is not None:
                context = context.flatten(0, 1)[groups.places]  # (N, H)
                weights = weights.flatten(0, 1)[groups.places]  # (N, S)
            weights = weights.view(*hidden.shape[:2], -1)  # (N, T, S)
            hidden = torch.cat([context.view_as(hidden), hidden], dim=2)  # (N, T, 2 H)
        if self.readout is not None:
            hidden = torch.tanh(self.readout(hidden))  # (N, T, R)
        return hidden, weights


class Seq2Seq(nn.Module):
    """Encoder and decoder, as they are trained (`forward`) and used (`encode`, `step`)."""

    def __init__(self, source_vocab_size: int, target_vocab_size: int, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(source_vocab_size, config)
        self.decoder = Decoder(target_vocab_size, config)
        if config.tie != "none":
            # As an output layer's, so that the first logits are small.
            nn.init.normal_(self.decoder.embedding.weight, std=config.embedding_size**-0.5)
            with torch.no_grad():
                self.decoder.embedding.weight[PAD] = 0
        if config.tie == "all":
            self.encoder.embedding.weight = self.decoder.embedding.weight

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.encoder.embedding.weight.device

    def forward(self, source: Tensor, source_lengths: Tensor, target_in: Tensor) -> Tensor:
        """Predict under teacher forcing: the decoder reads the true target.

        Args:
            source: (B, S) tokens, padded at the end.
            source_lengths: (B,) true lengths, each at least 1.
            target_in: (B, T) tokens, `<sos>` first.

        Returns:
            Hidden vectors (B, T, R), of which `decoder.output` makes the logits of the next tokens.
        """
        hidden: Tensor
        hidden, _, _ = self.decoder(target_in, self.encode(source, source_lengths))
        return hidden

    def encode(self, source: Tensor, source_lengths: Tensor) -> DecoderState:
        """Return the decoder's initial state for source tokens (B, S) of lengths (B,)."""
        outputs, context = self.encoder(source, source_lengths)
        memory = None
        if self.decoder.attention is not None:
            values = self.encoder.restore_order(outputs, source, source_lengths)  # (B, S, H)
            positions = torch.arange(source.shape[1], device=source.device)  # (S,)
            padding = positions >= source_lengths.to(source.device)[:, None]  # (B, S)
            memory = self.decoder.attention.memory(values, padding)
        return self.decoder.initial_state(context, memory)

    def step(
        self, tokens: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Read one token of each hypothesis.

        Args:
            tokens: (N,) the last token of each hypothesis.

        Returns:
            Logits (N, V) of the next tokens; with attention, the weights (N, S) of the source
            tokens; the state after `tokens`.
        """
        hidden, weights, state = self.decoder(tokens[:, None], state)  # (N, 1, R)
        logits: Tensor = self.decoder.output(hidden[:, 0])  # (N, V)
        return logits, None if weights is None else weights[:, 0], state

    def named_weights(self) -> dict[str, Tensor]:
        """Return all weights by name, tied ones once."""
        return {name: weight.detach() for name, weight in self.named_parameters()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights, as of `named_weights`, into the model.

        Raises:
            RuntimeError: names or shapes differ from the model's.
        """
        own = self.named_weights()
        if own.keys() != weights.keys():
            odd = ", ".join(sorted(own.keys() ^ weights.keys()))
            raise RuntimeError(f"its weights are those of another kind of model ({odd})")
        for name, weight in own.items():
            if weight.shape != weights[name].shape:
                raise RuntimeError(
                    f"{name} has the shape {tuple(weights[name].shape)}, not {tuple(weight.shape)}"
                )
            weight.copy_(weights[name])


def reversed_positions(source: Tensor, lengths: Tensor) -> Tensor:
    """Return the positions (B, S) that reverse each row's tokens and leave padding in place."""
    positions = torch.arange(source.shape[1], device=source.device)  # (S,)
    backwards = lengths.to(source.device)[:, None] - 1 - positions  # (B, S)
    return torch.where(backwards < 0, positions, backwards)


def _embed(embedding: nn.Embedding, tokens: Tensor, word_dropout: float) -> Tensor:
    """Return vectors (N, T, E) of tokens (N, T), of which a share is set to zero."""
    vectors: Tensor = embedding(tokens)
    if word_dropout:
        mask = torch.empty_like(vectors[:, :, :1]).bernoulli_(1 - word_dropout)  # (N, T, 1)
        vectors = vectors * mask / (1 - word_dropout)
    return vectors
