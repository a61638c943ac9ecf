"""Where an installation's agents lie: the shipped folder, and the one that HEADSTART_AGENTS names."""

from __future__ import annotations

from pathlib import Path

from streams.errors import Misconfigured
from streams.settings import Settings
from workers.agents.catalog import SHIPPED


def roots(settings: Settings) -> list[Path]:
    """The folders under which each folder is an agent. Raises Misconfigured when the named one holds no agent."""
    if settings.agents is None:
        return [SHIPPED]
    if not any(settings.agents.glob("*/agent.toml")):
        raise Misconfigured(
            f"HEADSTART_AGENTS: there is no agent in {settings.agents}",
            hint="each agent is a folder with an agent.toml",
        )
    return [SHIPPED, settings.agents]
