"""s2s trains and serves LSTM sequence-to-sequence translators, on a laptop or a Ray cluster."""

__version__ = "0.1.0"
