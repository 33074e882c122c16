"""`ray job submit … -- python -m jobs.tune …`: the flags are those of `s2s tune`."""

import sys

from s2s.cli.main import run

if __name__ == "__main__":
    sys.exit(run("tune"))
