"""`ray job submit … -- python -m jobs.prepare …`: the flags are those of `s2s prepare`."""

import sys

from jobs.entrypoint import run

if __name__ == "__main__":
    sys.exit(run("prepare"))
