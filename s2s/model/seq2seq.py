"""The encoder–decoder: of Sutskever et al. (2014), and with attention of Luong et al. (2015).

https://arxiv.org/abs/1409.3215 and https://arxiv.org/abs/1508.04025.

Shapes: B sentences, K hypotheses of each (one in training), N = B × K, grouped by sentence;
S source tokens, T target tokens, E embedding size, H hidden size, L layers, V target words;
R = E where the output layer's weights are those of the embedding, else H.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from s2s.config import ModelConfig
from s2s.text.vocabulary import PAD

# What recurrent layers carry from word to word: hidden and cell state of an LSTM, the hidden state
# alone of other cells.
Cells = tuple[Tensor, ...]  # each (L, N, H)

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_PARTS = {"lstm": 2, "gru": 1, "rnn": 1}
_STEPS: dict[str, Callable[..., Tensor | Cells]] = {
    "lstm": torch.lstm_cell,
    "gru": torch.gru_cell,
    "rnn": torch.rnn_tanh_cell,
}
_SEQUENCES: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "rnn": torch.rnn_tanh,
}

# What a word of padding adds to each of a cell's gates, in torch's order, so that the state stays
# what it was: an LSTM forgets nothing and lets nothing in, a GRU updates nothing. It is so much
# that a sigmoid is 0 or 1 to the last bit, and finite in fp16.
_SHUT = 1e4
_HOLDS = {"lstm": (-_SHUT, _SHUT, 0.0, 0.0), "gru": (0.0, _SHUT, 0.0)}
# cuDNN wants all weights in one piece, and copies them there where they are not.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")

# Features that mark padding, of which the first alone is not zero: tensor cores want a multiple of
# this.
_MARKS = 8

# cuDNN keeps the weights of a layer up to so wide on the chip, in float32 but not in bf16; up to so
# many numbers of a state, rows times width, that is the faster of the two (docs/gpu.md).
_NARROW, _FEW = 128, 32_768


@dataclass(frozen=True)
class Memory:
    """What attention looks back at: the encoder's outputs, and what never changes of them."""

    values: Tensor  # (B, S, H)
    keys: Tensor  # (B, S, H), what queries are compared with
    padding: Tensor  # (B, S) bool, True where there is no word


@dataclass(frozen=True)
class State:
    """All that the decoder knows before a step."""

    cells: Cells
    memory: Memory | None = None  # with attention
    fed: Tensor | None = None  # (N, R), with input feeding: what the step before predicted from

    def moved(self, rows: Tensor) -> "State":
        """Each hypothesis in the place of another one of its sentence, `rows` (N,)."""
        fed = None if self.fed is None else self.fed[rows]
        return State(tuple(part[:, rows] for part in self.cells), self.memory, fed)

    def taken(self, sentences: Tensor, hypotheses: int = 1) -> "State":
        """The state of some of the sentences, (any,), which have so many hypotheses each."""
        memory = self.memory
        if memory is not None:
            parts = (memory.values, memory.keys, memory.padding)
            memory = Memory(*(part[sentences] for part in parts))
        each = torch.arange(hypotheses, device=sentences.device)
        rows = (sentences[:, None] * hypotheses + each).flatten()
        return replace(self, memory=memory).moved(rows)


class LockedDropout(nn.Module):
    """Dropout with one mask for all words of a sentence (Gal and Ghahramani, 2016).

    https://arxiv.org/abs/1512.05287
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Inputs (N, T, any), some of their features zero and the others scaled up.

        Args:
            mask: (N, 1, any) of `mask`, where the words of a sentence come one by one.
        """
        if not self.training or not self.rate:
            return inputs
        return inputs * (self.mask(inputs[:, :1]) if mask is None else mask)

    def packed(self, inputs: PackedSequence) -> PackedSequence:
        """The same for packed sentences."""
        if not self.training or not self.rate:
            return inputs
        sizes = inputs.batch_sizes.tolist()
        mask = self.mask(inputs.data[: sizes[0]])  # (N, any)
        mask = torch.cat([mask[:size] for size in sizes])
        return inputs._replace(data=inputs.data * mask)

    def mask(self, like: Tensor) -> Tensor:
        """What features are multiplied by, of the shape of some."""
        return torch.empty_like(like).bernoulli_(1 - self.rate).div_(1 - self.rate)


class Recurrent(nn.Module):
    """A stack of recurrent layers with one form of state for all cells."""

    marks: Tensor

    def __init__(self, inputs: int, config: ModelConfig, *, bidirectional: bool = False) -> None:
        super().__init__()
        cell, hidden = _CELLS[config.cell], config.hidden_size
        width = hidden // 2 if bidirectional else hidden
        self.layers = nn.ModuleList(
            cell(
                inputs if layer == 0 else hidden,
                width,
                batch_first=True,
                bidirectional=bidirectional,
            )
            for layer in range(config.layers)
        )
        self.dropout = LockedDropout(config.dropout)
        self.residual = config.residual
        self._cell, self._step = config.cell, _STEPS[config.cell]
        # The weights (gates × width, _MARKS) of the features that mark padding.
        gates = torch.tensor(_HOLDS.get(config.cell, (0.0,))).repeat_interleave(width)
        marks = nn.functional.pad(gates[:, None], (0, _MARKS - 1))
        self.register_buffer("marks", marks, persistent=False)

    def forward(
        self, inputs: Tensor, cells: Cells, masks: Sequence[Tensor | None] | None = None
    ) -> tuple[Tensor, Cells]:
        """Outputs (N, T, H) and last state for inputs (N, T, any).

        Args:
            masks: of the dropout before each layer but the first; drawn here if not given.
        """
        lasts = []
        masks = masks or [None] * len(self.layers)
        for number, layer in enumerate(self.layers):
            if number:
                inputs = self.dropout(inputs, masks[number - 1])
            first = tuple(part[number : number + 1] for part in cells)
            if inputs.shape[1] == 1 and not torch.is_grad_enabled():
                # A sequence of one word has much to set up and little to compute: the bare cell
                # takes a third of the time for one sentence (docs/log.md).
                word, before = inputs[:, 0], _given(tuple(part[0] for part in first))
                last = self._step(word, before, *_weights(layer))
                lasts.append(tuple(part[None] for part in _parts(last)))
                outputs = lasts[-1][0].transpose(0, 1)
            elif inputs.device.type == "cuda":
                outputs, parts = self._on_card(layer, inputs, first)
                lasts.append(parts)
            else:
                outputs, last = layer(inputs, _given(first))
                lasts.append(_parts(last))
            inputs = outputs + inputs if self.residual and number else outputs
        return inputs, _stacked(lasts)

    def read(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor | PackedSequence, Cells]:
        """Outputs and the state after each row's own last input, of inputs (B, S, any).

        Padding is never read. In a bidirectional stack each direction has half of every state, and
        the backward one's last input is the first word.

        Returns:
            Outputs (B, S, H), of which those of padding mean nothing, on a GPU; packed elsewhere.
        """
        if inputs.device.type == "cuda" and self._cell in _HOLDS:
            return self._read_padded(inputs, lengths)
        return self._read_packed(inputs, lengths.cpu())

    def _read_packed(self, inputs: Tensor, lengths: Tensor) -> tuple[PackedSequence, Cells]:
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        # Sentences drop out step by step, and oneDNN would compile, and keep, code for every number
        # of them that is left; float32 takes another library (docs/log.md). On a GPU, autocast to
        # bf16 would compute in fp16.
        with torch.autocast(inputs.device.type, enabled=False):
            return self._read(packed._replace(data=packed.data.float()))

    def _read(self, packed: PackedSequence) -> tuple[PackedSequence, Cells]:
        lasts = []
        for number, layer in enumerate(self.layers):
            if number:
                packed = self.dropout.packed(packed)
            outputs, last = layer(packed)
            lasts.append(tuple(torch.cat([*part], dim=1)[None] for part in _parts(last)))
            if self.residual and number:
                outputs = outputs._replace(data=outputs.data + packed.data)
            packed = outputs
        return packed, _stacked(lasts)

    def _read_padded(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Cells]:
        """The same on a GPU: no length is known to the CPU, and the shape is all that counts.

        Packed, a layer is a few kernels for every word, for a set of rows that shrinks, and the CPU
        must know them all. Padded, cuDNN can take all words in one kernel. That padding changes
        nothing is told to the gates by an input of their own.
        """
        lengths = lengths.to(inputs.device)
        places = torch.arange(inputs.shape[1], device=inputs.device)  # (S,)
        padding = (places >= lengths[:, None])[:, :, None].to(inputs.dtype)  # (B, S, 1)
        last = (lengths - 1)[:, None, None]  # (B, 1, 1)
        lasts = []
        for number, layer in enumerate(self.layers):
            if number:
                inputs = self.dropout(inputs)
            directions = 2 if layer.bidirectional else 1
            width: int = layer.hidden_size  # type: ignore[assignment]
            first = (inputs.new_zeros(directions, len(inputs), width),) * _PARTS[self._cell]
            outputs, parts = self._on_card(layer, inputs, first, padding)  # (B, S, H)
            if self._cell == "lstm":
                # The cell state is held, but what it lets out depends on the input: the forward
                # direction's is taken where it was. The backward one begins with padding.
                hidden = outputs[:, :, :width].gather(1, last.expand(-1, 1, width))  # (B, 1, width)
                parts = (torch.cat([hidden.transpose(0, 1), parts[0][1:]]), parts[1])
            lasts.append(tuple(torch.cat([*part], dim=1)[None] for part in parts))
            inputs = outputs + inputs if self.residual and number else outputs
        return inputs, _stacked(lasts)

    def _on_card(
        self, layer: nn.Module, inputs: Tensor, first: Cells, padding: Tensor | None = None
    ) -> tuple[Tensor, Cells]:
        """Outputs (N, T, any) and last state of a layer for inputs (N, T, any), by cuDNN.

        Autocast to bf16 would compute it in fp16, whose small gradients vanish.

        Args:
            padding: (N, T, 1), 1 where the state is to stay what it was; 0 elsewhere.
        """
        layer = cast(nn.RNNBase, layer)
        dtype = inputs.dtype
        if torch.is_autocast_enabled("cuda"):
            narrow = layer.hidden_size <= _NARROW and layer.hidden_size * len(inputs) <= _FEW
            dtype = torch.float32 if narrow else torch.get_autocast_dtype("cuda")
        weights = _weights(layer)
        if padding is not None:
            marks = nn.functional.pad(padding, (0, _MARKS - 1))  # (N, T, _MARKS)
            inputs = torch.cat([inputs, marks.to(inputs.dtype)], dim=2)
            for start in range(0, len(weights), 4):  # the weights of the inputs, of each direction
                weights[start] = torch.cat([weights[start], self.marks], dim=1)
        state = tuple(part.to(dtype) for part in first)
        with torch.autocast("cuda", enabled=False):
            outputs, *last = _SEQUENCES[self._cell](
                inputs.to(dtype),
                state if len(state) > 1 else state[0],
                [weight.to(dtype) for weight in weights],
                True,  # with biases
                1,  # layer
                0.0,  # dropout
                self.training,
                layer.bidirectional,
                True,  # batch first
            )
        return outputs, tuple(last)


class Encoder(nn.Module):
    """Reads the source; its last state is the context vector."""

    def __init__(self, words: int, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, config.embedding_size, padding_idx=PAD)
        self.recurrent = Recurrent(
            config.embedding_size, config, bidirectional=config.bidirectional
        )
        self.dropout, self.word_dropout = LockedDropout(config.dropout), config.word_dropout
        self.backwards = config.reverse_source
        # Halves that know one direction each become a state that knows both (Bahdanau et al., 2015,
        # https://arxiv.org/abs/1409.0473, appendix A.2.2).
        self.bridge = nn.ModuleList(
            nn.Linear(config.hidden_size, config.hidden_size)
            for _ in range(_PARTS[config.cell] if config.bidirectional else 0)
        )

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor | PackedSequence, Cells]:
        """Outputs and context vector of source tokens (B, S) of lengths (B,)."""
        if self.backwards:
            source = source.gather(1, mirrored(source, lengths))
        words = _words(self.embedding, source, self.word_dropout if self.training else 0.0)
        outputs, cells = self.recurrent.read(self.dropout(words), lengths)
        if self.bridge:
            cells = tuple(
                torch.tanh(bridge(part)) for bridge, part in zip(self.bridge, cells, strict=True)
            )
        return outputs, cells

    def unpacked(self, outputs: Tensor | PackedSequence, source: Tensor, lengths: Tensor) -> Tensor:
        """The outputs (B, S, H), each in the place of the word that it is of."""
        if isinstance(outputs, PackedSequence):
            places, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.shape[1])
        else:
            places = outputs
        if not self.backwards:
            return places
        return places.gather(1, mirrored(source, lengths)[:, :, None].expand_as(places))


class Attention(nn.Module):
    """Weighs the source words by how well they fit what the decoder looks for.

    `dot` and `general` are Luong's scores, `additive` is Bahdanau's; all are used as Luong does,
    after the recurrent layers, so that training needs no loop over the words.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        additive = config.attention == "additive"
        self.key = nn.Linear(hidden, hidden, bias=False) if config.attention != "dot" else None
        self.query = nn.Linear(hidden, hidden, bias=False) if additive else None
        self.energy = nn.Linear(hidden, 1, bias=False) if additive else None

    def memory(self, values: Tensor, padding: Tensor) -> Memory:
        """What is looked back at, made once for each sentence, of (B, S, H) and (B, S)."""
        return Memory(values, values if self.key is None else self.key(values), padding)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Context vectors (B, Q, H) and weights (B, Q, S) for queries (B, Q, H)."""
        if self.query is None or self.energy is None:
            scores = queries @ memory.keys.to(queries.dtype).mT  # (B, Q, S)
        else:
            sums = self.query(queries)[:, :, None] + memory.keys[:, None]  # (B, Q, S, H)
            scores = self.energy(torch.tanh(sums))[..., 0]  # (B, Q, S)
        scores = scores.float().masked_fill(memory.padding[:, None], -torch.inf)
        weights = scores.softmax(dim=2)  # (B, Q, S)
        return weights.to(queries.dtype) @ memory.values.to(queries.dtype), weights


class Decoder(nn.Module):
    """Begins in the encoder's last state and predicts the target word by word."""

    def __init__(self, words: int, config: ModelConfig) -> None:
        super().__init__()
        embedding, hidden = config.embedding_size, config.hidden_size
        predicted_from = hidden if config.tie == "none" else embedding
        self.embedding = nn.Embedding(words, embedding, padding_idx=PAD)
        fed = predicted_from if config.input_feeding else 0
        self.recurrent = Recurrent(embedding + fed, config)
        attends = config.attention != "none"
        self.attention = Attention(config) if attends else None
        self.readout = (
            nn.Linear(2 * hidden if attends else hidden, predicted_from)
            if attends or predicted_from != hidden
            else None
        )
        self.dropout, self.word_dropout = LockedDropout(config.dropout), config.word_dropout
        self.input_feeding = config.input_feeding
        self.output = nn.Linear(predicted_from, words)
        if config.tie != "none":
            self.output.weight = self.embedding.weight

    def begin(self, cells: Cells, memory: Memory | None) -> State:
        """The state before the first word."""
        fed = cells[0].new_zeros(cells[0].shape[1], self.output.in_features)
        return State(cells, memory, fed if self.input_feeding else None)

    def forward(self, target_in: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        """Reads target tokens (N, T).

        Returns:
            What the next words are predicted from, (N, T, R); weights of the source words, (N, T,
            S), with attention; the state after the last token.
        """
        words = _words(self.embedding, target_in, self.word_dropout if self.training else 0.0)
        words = self.dropout(words)  # (N, T, E)
        if state.fed is None:
            hidden, cells = self.recurrent(words, state.cells)  # (N, T, H)
            hidden, weights = self._look(hidden, state.memory)
            return self.dropout(hidden), weights, State(cells, state.memory)
        steps, looks, cells, fed = [], [], state.cells, state.fed
        ones = torch.ones_like(cells[0][:1].transpose(0, 1))  # (N, 1, H)
        masks = [self.dropout.mask(ones) for _ in self.recurrent.layers[1:]]
        for word in words.unbind(1):
            inputs = torch.cat([word, fed.to(word.dtype)], dim=1)[:, None]  # (N, 1, E + R)
            hidden, cells = self.recurrent(inputs, cells, masks)  # (N, 1, H)
            hidden, weights = self._look(hidden, state.memory)  # (N, 1, R), (N, 1, S)
            fed = hidden[:, 0]
            steps.append(fed)
            if weights is not None:
                looks.append(weights)
        hidden = self.dropout(torch.stack(steps, dim=1))  # (N, T, R)
        weights = torch.cat(looks, dim=1) if looks else None  # (N, T, S)
        return hidden, weights, State(cells, state.memory, fed)

    def _look(self, hidden: Tensor, memory: Memory | None) -> tuple[Tensor, Tensor | None]:
        """What words are predicted from, (N, T, R), and weights (N, T, S), of (N, T, H)."""
        weights = None
        if self.attention is not None and memory is not None:
            queries = hidden.reshape(len(memory.values), -1, hidden.shape[2])  # (B, K × T, H)
            context, weights = self.attention(queries, memory)
            weights = weights.view(*hidden.shape[:2], -1)
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

    def forward(self, source: Tensor, source_lengths: Tensor, target_in: Tensor) -> Tensor:
        """Teacher forcing: the decoder reads the true target, whatever it would have said.

        Args:
            source: (B, S) tokens, padded at the end.
            source_lengths: (B,) true lengths, each at least 1.
            target_in: (B, T) tokens, `<sos>` first.

        Returns:
            (B, T, R) states; `decoder.output` makes the logits of the next words of them.
        """
        hidden: Tensor
        hidden, _, _ = self.decoder(target_in, self.encode(source, source_lengths))
        return hidden

    def encode(self, source: Tensor, source_lengths: Tensor) -> State:
        """The state in which the decoder begins, for source tokens (B, S) of lengths (B,)."""
        outputs, cells = self.encoder(source, source_lengths)
        memory = None
        if self.decoder.attention is not None:
            values = self.encoder.unpacked(outputs, source, source_lengths)
            places = torch.arange(source.shape[1], device=source.device)  # (S,)
            padding = places >= source_lengths.to(source.device)[:, None]  # (B, S)
            memory = self.decoder.attention.memory(values, padding)
        return self.decoder.begin(cells, memory)

    def weights(self) -> dict[str, Tensor]:
        """All weights by name, tied ones once."""
        return {name: weight.detach() for name, weight in self.named_parameters()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what `weights` gave.

        Raises:
            RuntimeError: names or shapes are others.
        """
        own = self.weights()
        if own.keys() != weights.keys():
            odd = ", ".join(sorted(own.keys() ^ weights.keys()))
            raise RuntimeError(f"its weights are those of another kind of model ({odd})")
        for name, weight in own.items():
            if weight.shape != weights[name].shape:
                raise RuntimeError(
                    f"{name} has the shape {tuple(weights[name].shape)}, not {tuple(weight.shape)}"
                )
            weight.copy_(weights[name])

    def step(self, words: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        """One word further.

        Args:
            words: (N,), each the last one of its hypothesis.

        Returns:
            Logits (N, V) of the next words; with attention, the weights (N, S) of the source words;
            the state after `words`.
        """
        hidden, weights, state = self.decoder(words[:, None], state)  # (N, 1, R)
        logits: Tensor = self.decoder.output(hidden[:, 0])  # (N, V)
        return logits, None if weights is None else weights[:, 0], state


def mirrored(source: Tensor, lengths: Tensor) -> Tensor:
    """The place (B, S) of each word if every row of lengths (B,) is turned round, padding apart."""
    places = torch.arange(source.shape[1], device=source.device)  # (S,)
    turned = lengths.to(source.device)[:, None] - 1 - places  # (B, S)
    return torch.where(turned < 0, places, turned)


def _words(embedding: nn.Embedding, tokens: Tensor, dropped: float) -> Tensor:
    """The vectors (N, T, E) of tokens (N, T), a share of them dropped as if they were not known."""
    vectors: Tensor = embedding(tokens)
    if dropped:
        kept = torch.empty_like(vectors[:, :, :1]).bernoulli_(1 - dropped)
        vectors = vectors * kept / (1 - dropped)
    return vectors


def _given(cells: Cells) -> Tensor | Cells:
    """The state of a layer as torch wants it."""
    return cells if len(cells) > 1 else cells[0]


def _weights(layer: nn.Module) -> list[Tensor]:
    """The weights of a recurrent layer that reads one way, in the order of torch's cells."""
    return [weight for _, weight in layer.named_parameters()]


def _parts(last: Tensor | Cells) -> Cells:
    return (last,) if isinstance(last, Tensor) else last


def _stacked(lasts: list[Cells]) -> Cells:
    """The states of all layers as one."""
    if len(lasts) == 1:
        return lasts[0]
    return tuple(torch.cat(parts) for parts in zip(*lasts, strict=True))
