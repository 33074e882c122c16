"""Processes that do not find some modules, as if they were not installed."""

# Put at the beginning of a script, whose first argument names the modules, separated by commas.
HIDING = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *arguments):
        hidden = name.partition(".")[0] in HIDDEN
        return None if hidden else self.finder.find_spec(name, *arguments)

HIDDEN = set(sys.argv[1].split(","))
sys.meta_path[:] = map(Hiding, sys.meta_path)
"""
