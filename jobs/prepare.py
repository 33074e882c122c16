"""`ray job submit … -- python -m jobs.prepare …`: the flags are those of `s2s prepare`."""

import sys

from s2s.cli.main import run

if __name__ == "__main__":
    sys.exit(run("prepare"))
