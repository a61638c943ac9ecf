"""`python -m tests.bench.gpu`: the vLLM worker on the bus against bare `AsyncLLM`, on a GPU.

Says so and stops where there is no CUDA device. Needs no weights: an 8B-sized configuration runs on random ones, and
the small model that ships on its own. Both ways ask the same engine in the same process, one after the other; who asks
the worker is another process, as in an installation.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.process import configure_logging, new_event_loop
from streams.settings import Settings
from tests.bench import report
from tests.bench.__main__ import kafka_at_hand, say
from tests.bench.gpu.models import MODELS, model_options
from tests.bench.gpu.side_by_side import Level, compare, levels_text
from workers.generation.vllm_engine import VllmEngine

LEVELS = (1, 64, 256)
FULL, QUICK = Level(rounds=3, tokens=256), Level(rounds=1, tokens=64)
REPEATS = 10  # of cancel and takeover


def no_device() -> str:
    """Why there is nothing to measure on, "" when there is a CUDA device."""
    try:
        import torch
    except ImportError as error:
        return f"PyTorch cannot be imported ({error}); install the extra `gpu`"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no CUDA device"
    return ""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs: that it works, and rough figures")
    parser.add_argument("--model", choices=list(MODELS), action="append", help="only this one; may be repeated")
    parser.add_argument("--streams", type=int, action="append", help="answers at once; may be repeated")
    parser.add_argument("--data", type=Path, help="folder for logs and data, kept afterwards")
    return parser.parse_args(arguments)


async def bench(chosen: argparse.Namespace, folder: Path) -> None:
    import torch

    found = kafka_at_hand()
    home = None if isinstance(found, str) else found.home
    machine = report.machine() | {"gpu": torch.cuda.get_device_name(0)}
    sys.stdout.write(f"{report.measured(machine)} GPU: {machine['gpu']}.\n")
    figures: dict[str, Any] = {"machine": machine, "quick": chosen.quick}
    level = QUICK if chosen.quick else FULL
    for name in chosen.model or MODELS:
        say(f"{name}: loading …")
        engine = VllmEngine(await model_options(name, Settings.from_env(os.environ).cache, folder))
        try:
            await engine.start()
            compared = await compare(engine, chosen.streams or LEVELS, level, REPEATS, folder / name, home, say)
        finally:
            await engine.close()
        sys.stdout.write(f"\n## {MODELS[name]}\n\n{levels_text(compared)}\n")
        figures[name] = compared.as_json()
    sys.stdout.write(f"\nJSON: {report.write(figures, 'gpu')}\n")


if __name__ == "__main__":
    chosen = options(sys.argv[1:])
    if reason := no_device():
        sys.stdout.write(f"bench-gpu measures on a CUDA device, and there is none: {reason}. Nothing was measured.\n")
        sys.exit(0)
    configure_logging("error")
    data = chosen.data or Path(tempfile.mkdtemp(prefix="headstart-bench-"))
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(bench(chosen, data))
    finally:
        if chosen.data is None:
            shutil.rmtree(data, ignore_errors=True)
