"""The gateway's own figures, in Prometheus' text format, from a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one gateway; several may live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sockets = Gauge("headstart_gateway_sockets", "Open sockets.", registry=self.registry)
        self.streams = Gauge("headstart_gateway_http_streams", "HTTP responses in progress.", registry=self.registry)
        self.turns = Counter("headstart_gateway_turns", "Turns submitted.", registry=self.registry)
        self.frames = Counter("headstart_gateway_frames", "Frames written to clients.", registry=self.registry)
        self.errors = Counter("headstart_gateway_errors", "Errors told to clients.", ["code"], registry=self.registry)
        self.behind = Counter(
            "headstart_gateway_behind", "Times a client's window was full and it was fed from the log.",
            registry=self.registry,
        )  # fmt: skip
        self.resumes = Counter("headstart_gateway_resumes", "Conversations attached.", registry=self.registry)
        self.records = Gauge("headstart_gateway_records", "Records read from events.", registry=self.registry)
        self.facts = Gauge("headstart_gateway_facts", "Records folded for a follower.", registry=self.registry)
        self.partitions = Gauge("headstart_gateway_partitions", "Partitions read.", registry=self.registry)
        self.rebuilt = Gauge("headstart_gateway_rebuilt", "Times the reader was rebuilt.", registry=self.registry)
        self.first_frame = Histogram(
            "headstart_gateway_submit_seconds", "From a request to the acknowledgement of its submit.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0), registry=self.registry,
        )  # fmt: skip

    def text(self) -> bytes:
        return generate_latest(self.registry)
