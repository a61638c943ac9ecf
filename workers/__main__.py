"""`python -m workers STAGE`: one stage of the journey as a process, until SIGTERM or Ctrl-C; then it drains.

Each stage is imported only when it is asked for, so that a turns worker loads no model library.
"""

from __future__ import annotations

import importlib
import os
import sys

from streams.process import Part, run_process

STAGES = {
    "turns": "workers.planning.worker",
    "generation": "workers.generation.worker",
    "memory": "workers.remembering.worker",
}
BACKGROUND_NICE = {"memory": 5}  # no client waits for it: it gets what the others on its machine leave


def main(arguments: list[str]) -> int:
    """Exit status: 0 after a drain, 1 for a failure, 2 for a wrong call or a wrong setting."""
    if len(arguments) != 1 or arguments[0] not in STAGES:
        sys.stderr.write(f"usage: python -m workers {'|'.join(STAGES)}\n")
        return 2
    os.nice(BACKGROUND_NICE.get(arguments[0], 0))
    stage: Part = importlib.import_module(STAGES[arguments[0]]).stage
    return run_process(stage)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
