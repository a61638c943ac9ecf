"""semantic-router beside ours: its environment, and one run of it over one set of agents."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import orjson

from memory.embed import Embedder
from tests.bench.own_environment import last_line_of, own_environment
from tests.bench.routing.labelled import NONE, Turn
from workers.agents.catalog import OUT_OF_SCOPE, Agent

PINNED: Final = ("semantic-router==1.1.1",)
SIDE: Final = "tests.bench.routing.semantic_router_side"
PATIENCE_S: Final = 240.0


class Way(msgspec.Struct, frozen=True):
    """One way of using it. how: its settings in words."""

    chosen: list[str]
    how: str


def environment(cache: Path) -> Path:
    """The Python that has it; made, once. Raises LeftOut."""
    return own_environment(cache / "bench-routing", PINNED)


async def chosen(
    python: Path, embedder: Embedder, agents: Mapping[str, Agent], development: Sequence[Turn],
    held_out: Sequence[Turn],
) -> dict[str, Way]:  # fmt: skip
    """What it chooses for each held-out turn, by way of using it. Raises LeftOut."""
    routes = {name: list(agent.utterances) for name, agent in agents.items() if name != OUT_OF_SCOPE}
    outside = list(agents[OUT_OF_SCOPE].utterances)
    said = [*(text for texts in routes.values() for text in texts), *outside]
    texts = list(dict.fromkeys([*said, *(turn.text for turn in (*development, *held_out))]))
    task = {
        "routes": routes, "nobody": NONE, "outside": outside,
        "development": [tuple(turn) for turn in development], "held_out": [tuple(turn) for turn in held_out],
        "vectors": dict(zip(texts, await embedder.embed(texts), strict=True)),
    }  # fmt: skip
    quiet = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHONPATH", "HEADSTART"))}
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as folder:
        file = Path(folder) / "task.json"
        file.write_bytes(orjson.dumps(task))
        line = await last_line_of(python, SIDE, str(file), quiet, PATIENCE_S)
    return msgspec.json.decode(line, type=dict[str, Way])
