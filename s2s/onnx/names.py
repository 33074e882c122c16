"""Names that the graphs share with those who run them."""

# Of the parts of the recurrent state.
STATE_NAMES = {"lstm": ("hidden", "cell"), "gru": ("hidden",), "rnn": ("hidden",)}

# Before the name of a part of the decoder state, where a step has changed it.
NEXT = "next_"
