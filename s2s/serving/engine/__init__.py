"""A model in a process of its own, which translates the sentences of many requests together."""
