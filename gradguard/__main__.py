"""Run the command line as ``python -m gradguard``."""

import sys

from gradguard.cli import main

if __name__ == "__main__":
    sys.exit(main())
