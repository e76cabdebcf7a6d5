"""One run of a toy line in a process of its own, which a test can kill: python line_worker.py FOLDER OUT [STORE]."""

import sys
from pathlib import Path

from toy_line import Toy, steps

if __name__ == "__main__":
    folder, out, *store = sys.argv[1:]
    for step in steps(Path(folder), Path(out), Toy(), store=store[0] if store else None):
        print(step.done, step.note, flush=True)
