"""`ray job submit … -- python -m jobs.translate …`: the flags are those of `s2s translate`."""

import sys

from s2s.cli.main import run

if __name__ == "__main__":
    sys.exit(run("translate"))
