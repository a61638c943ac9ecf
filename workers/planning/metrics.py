"""A turns worker's own figures about services, in Prometheus' text format, from a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, generate_latest


class Metrics:
    """Figures of one turns worker; several may live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.refused = Counter(
            "headstart_turns_refused", "Records of turns that were set aside, by the reason's name.", ["code"],
            registry=self.registry,
        )  # fmt: skip
        self.results = Counter(
            "headstart_turns_results",
            "Results of calls over the bus: taken, early, repeated, late or unexpected.", ["verdict"],
            registry=self.registry,
        )  # fmt: skip

    def text(self) -> bytes:
        return generate_latest(self.registry)
