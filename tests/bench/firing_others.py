"""LangGraph's and pydantic-ai's agents on the same grid: an environment of their own, and their runs."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.firing_grid import Cell, skill_name
from tests.bench.own_environment import LeftOut, own_environment

PINNED: Final = (
    "langgraph==1.2.22", "langchain-core==1.7.2", "langchain-openai==1.7.3", "pydantic-ai-slim[openai]==2.68.0",
    "openai==3.54.0", "httpx",
)  # fmt: skip
FRAMEWORKS: Final = ("langgraph", "pydantic_ai")
AGENT: Final = Path(__file__).with_name("firing_agent.py")
WARM_UP: Final = 999
LETTERS: Final = {"langgraph": "l", "pydantic_ai": "p"}


def environment(cache: Path) -> Path:
    """The environment's Python; made, once, with the pinned versions. Raises LeftOut."""
    return own_environment(cache / "bench-agents", PINNED)


async def turns(
    python: Path, framework: str, port: int, cells: Sequence[Cell], at_once: Mapping[int, int]
) -> list[float]:
    """Each cell's turn in ms, from the request for the plan to the one with its calls' results; in order.

    at_once: how many run side by side, by the cell's rate. Raises LeftOut.
    """
    lines = []
    for number, cell in [(WARM_UP, cells[0]), *enumerate(cells)]:
        values = f"{cell.rate},{cell.delay_ms},{cell.calls},{cell.after},{cell.needed}"
        lines.append(json.dumps({
            "run": run_of(framework, number), "cell": values, "skill": skill_name(cell.delay_ms),
            "delay_ms": cell.delay_ms, "at_once": at_once[cell.rate],
        }))  # fmt: skip
    quiet = {name: text for name, text in os.environ.items() if not name.startswith(("LANG", "OPENAI", "LOGFIRE"))}
    process = await asyncio.create_subprocess_exec(
        str(python), str(AGENT), framework, f"http://127.0.0.1:{port}", env=quiet,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate("\n".join(lines).encode())
    if process.returncode:
        raise LeftOut(f"{framework} failed: {errors.decode()[-2_000:]}")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/turns") as answer:
        took_ms: dict[str, float] = json.load(answer)
    return [took_ms[run_of(framework, number)] for number in range(len(cells))]


def run_of(framework: str, number: int) -> str:
    return f"r{number:03d}{LETTERS[framework]}"
