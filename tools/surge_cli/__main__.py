"""`python -m surge_cli` is `surge`."""

import sys

from surge_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
