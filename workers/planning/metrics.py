"""A turns worker's own figures about services, in Prometheus' text format, from a registry of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


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

    def follow_skills(self, refused: Mapping[str, int]) -> None:
        """From now on the figures hold what the skill registry refused too (SkillRegistry.refused)."""
        self.registry.register(_SkillsRefused(refused))


class _SkillsRefused(Collector):
    """Read when it is asked for."""

    def __init__(self, refused: Mapping[str, int]) -> None:
        self._refused = refused

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "headstart_skills_refused", "Records of skills that were set aside, by the reason's name.", labels=["code"]
        )  # fmt: skip
        for code, count in self._refused.items():
            family.add_metric([code], count)
        yield family
