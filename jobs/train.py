"""`ray job submit … -- python -m jobs.train …`: the flags are those of `s2s train`."""

import sys

from jobs.entrypoint import run

if __name__ == "__main__":
    sys.exit(run("train"))
