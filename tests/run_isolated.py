"""Runs one test of one file in this process: what `isolation.isolated(fresh=True)` starts.

python run_isolated.py FILE TEST < pickled parameters
"""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path


def main() -> int:
    where = Path(sys.argv[1])
    sys.path[:0] = [str(Path(__file__).parent), str(where.parent)]
    run_here = importlib.import_module("isolation").run_here
    test = getattr(importlib.import_module(where.stem), sys.argv[2]).__wrapped__
    return int(run_here(test, pickle.load(sys.stdin.buffer)))


if __name__ == "__main__":
    sys.exit(main())
