"""`ray job submit … -- python -m jobs.tune …`: the flags are those of `s2s tune`."""

import sys

from jobs.entrypoint import run

if __name__ == "__main__":
    sys.exit(run("tune"))
