"""`python -m s2s.cli` is `s2s`."""

import sys

from s2s.cli.main import main

sys.exit(main())
