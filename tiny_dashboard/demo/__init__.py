"""The embedded demo: a small model pair, its crosscoder and their examples; `build.py` made them."""

from pathlib import Path

FOLDER = Path(__file__).parent
