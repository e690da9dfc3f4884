"""``python -m teeverify``: the command line."""

import sys

from teeverify.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
