"""Entrypoints for `ray job submit`, one for each verb of the `s2s` command."""
