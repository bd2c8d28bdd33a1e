"""`python -m tiny_dashboard …` is `tiny-dashboard …`."""

import sys

from tiny_dashboard.cli import main

if __name__ == "__main__":
    sys.exit(main())
