"""``python -m shmipc`` is the ``shmipc`` command."""

import sys

from shmipc.cli import main

if __name__ == "__main__":
    sys.exit(main())
