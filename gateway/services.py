"""What every connection of a gateway shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.access import Door
from gateway.deliveries import Deliveries
from gateway.directory import Directory
from gateway.feed import Feed
from gateway.intake import Intake
from gateway.limits import Limits
from gateway.metrics import Metrics
from gateway.roster import Roster
from memory.store import Store
from streams.bus import Bus


@dataclass(slots=True)
class Services:
    """The parts of one gateway. draining: it stops, so nothing new is begun."""

    bus: Bus
    store: Store
    feed: Feed
    directory: Directory
    intake: Intake
    door: Door
    roster: Roster
    deliveries: Deliveries
    limits: Limits
    metrics: Metrics
    now_ms: Callable[[], int]
    draining: bool = False
