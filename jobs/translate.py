"""`ray job submit … -- python -m jobs.translate …`: the flags are those of `s2s translate`."""

import sys

from jobs.entrypoint import run

if __name__ == "__main__":
    sys.exit(run("translate"))
