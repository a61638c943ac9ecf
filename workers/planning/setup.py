"""What all turns of a worker share: its agents and its models. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streams.models import DEFAULT_MODEL, ModelSpec
from workers.agents.catalog import Agent


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What all turns of a worker share. default_model: for steps that name none. router_model: "" when the router
    may not ask a model."""

    agents: Mapping[str, Agent]
    models: Mapping[str, ModelSpec]
    default_model: str = DEFAULT_MODEL
    router_model: str = ""
