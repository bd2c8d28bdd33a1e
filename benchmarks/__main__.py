"""`python -m benchmarks [NAME …]`: all benchmarks, or those named; each prints ratios against a limit or a rival."""

import sys
from importlib import import_module

NAMES = ("rendering", "model_side", "views", "browser", "cold_start", "storage", "site", "collecting")

if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        if name not in NAMES:
            sys.exit(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")
        print(f"\n# {name}", flush=True)
        import_module(f"benchmarks.{name}").run()
