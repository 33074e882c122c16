"""`ray job submit … -- python -m jobs.evaluate …`: the flags are those of `s2s evaluate`."""

import sys

from jobs.entrypoint import run

if __name__ == "__main__":
    sys.exit(run("evaluate"))
