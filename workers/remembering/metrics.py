"""The memory worker's own figures, in Prometheus' text format, from a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Figures of one memory worker; several may live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lag_records = Gauge(
            "headstart_memory_lag_records", "Records of events that are not stored yet.", ["partition"],
            registry=self.registry,
        )  # fmt: skip
        self.lag_seconds = Gauge(
            "headstart_memory_lag_seconds", "Age of the newest record that was stored.", registry=self.registry
        )
        self.records = Counter("headstart_memory_records", "Records read.", registry=self.registry)
        self.memories = Counter("headstart_memory_memories", "Texts that became memories.", registry=self.registry)
        self.learnt = Counter(
            "headstart_memory_learnt", "Facts, summaries and examples that were made of turns.", ["kind"],
            registry=self.registry,
        )  # fmt: skip
        self.batches = Counter(
            "headstart_memory_batches", "Transactions that stored something.", registry=self.registry
        )
        self.dead_letters = Counter("headstart_memory_dead_letters", "Records set aside.", registry=self.registry)
        self.dropped = Gauge(
            "headstart_memory_dropped", "Facts the fence does not count.", ["verdict"], registry=self.registry
        )
        self.gone = Counter(
            "headstart_memory_gone", "Records that aged out of the log before they were read.", registry=self.registry
        )
        self.retries = Counter(
            "headstart_memory_retries", "Times a peer failed and the position was read again.", registry=self.registry
        )
        self.embed_seconds = Histogram(
            "headstart_memory_embed_seconds", "Embedding the memories of one batch.", registry=self.registry
        )
        self.store_seconds = Histogram(
            "headstart_memory_store_seconds", "Storing the batches of one round.", registry=self.registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
