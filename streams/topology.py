"""Every topic: what it holds, its key, how many partitions, how long it is kept, who writes and who reads it.

`turns`, `calls` and `events` have the same number of partitions and grow together, `events` first, because a
conversation's id names its partition (ids.py) and one owner must see a turn's commands and its facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

AckPolicy = Literal["watermark", "position_in_postgres", "manual_assign", "ack", "replay_from_start"]
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
DEFAULT_PARTITIONS: Final = 32
RECORD_SIZE_BYTES: Final = 1 << 20  # Kafka's own default for message.max.bytes; a larger record is refused at the door


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the topology.

    partitions: None means "as many as a conversation may live on" (HEADSTART_PARTITIONS, default 32).
    retention_ms: None with cleanup "compact" means the newest record of each key is kept for good.
    producers, consumers: roles, as in USERS; the broker's access rules are made from them (access.py). A turns worker
    writes to `turns` what it forwards; everybody but a service reads the log's epoch from `prompts`; workers' health
    checks read `workers`. An operator is a person at a command line: tail, record, dead retry, replay, archive.
    """

    name: str
    holds: str
    key: str
    partitions: int | None
    retention_ms: int | None
    cleanup: Literal["delete", "compact", "compact,delete"]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    ack: AckPolicy
    record_size_bytes: int = RECORD_SIZE_BYTES

    def config(self) -> dict[str, str]:
        """Topic settings in Kafka's own names, as strings."""
        settings = {"cleanup.policy": self.cleanup, "max.message.bytes": str(self.record_size_bytes)}
        if self.retention_ms is not None:
            settings["retention.ms"] = str(self.retention_ms)
        if "compact" in self.cleanup:
            settings["min.cleanable.dirty.ratio"] = "0.1"
        return settings


TURNS = Topic(
    name="turns", holds="what comes in: submit, cancel, steer, approve; facts and results from services",
    key="conversation", partitions=None, retention_ms=7 * DAY_MS, cleanup="delete",
    producers=("gateway", "service", "turns worker", "operator"), consumers=("turns worker", "operator"),
    ack="watermark",
)  # fmt: skip
GENERATIONS = Topic(
    name="generations", holds="work for generation workers", key="conversation", partitions=None,
    retention_ms=DAY_MS, cleanup="delete",
    producers=("turns worker", "memory worker", "operator"), consumers=("generation worker",), ack="watermark",
)  # fmt: skip
CALLS = Topic(
    name="calls", holds="work for skills that live on the bus", key="conversation", partitions=None,
    retention_ms=DAY_MS, cleanup="delete",
    producers=("turns worker", "operator"), consumers=("service",), ack="ack",
)  # fmt: skip
EVENTS = Topic(
    name="events", holds="every fact of every turn, in order: the one log", key="conversation", partitions=None,
    retention_ms=7 * DAY_MS, cleanup="delete",
    producers=("turns worker", "generation worker"),
    consumers=("gateway", "turns worker", "generation worker", "memory worker", "service", "operator"),
    ack="manual_assign",
)  # fmt: skip
WORKERS = Topic(
    name="workers", holds="who is alive, which partitions it holds, how loaded it is", key="worker", partitions=1,
    retention_ms=HOUR_MS, cleanup="compact,delete",
    producers=("turns worker", "generation worker", "memory worker"),
    consumers=("turns worker", "generation worker", "memory worker", "gateway", "operator"), ack="replay_from_start",
)  # fmt: skip
DEAD_LETTERS = Topic(
    name="dead_letters", holds="what could not be processed, whole, with the reason", key="source key", partitions=4,
    retention_ms=30 * DAY_MS, cleanup="delete",
    producers=("turns worker", "generation worker", "memory worker", "service"),
    consumers=("turns worker", "operator"), ack="manual_assign",
    record_size_bytes=2 * RECORD_SIZE_BYTES,
)  # fmt: skip
SKILLS = Topic(
    name="skills", holds="skill manifests: name@version is immutable, name points to one", key="name@version, name",
    partitions=1, retention_ms=None, cleanup="compact",
    producers=("service", "turns worker", "operator"), consumers=("turns worker", "gateway", "service", "operator"),
    ack="replay_from_start",
)  # fmt: skip
PROMPTS = Topic(
    name="prompts", holds="prompt texts: name@version is immutable, name points to one", key="name@version, name",
    partitions=1, retention_ms=None, cleanup="compact",
    producers=("turns worker",),
    consumers=("turns worker", "generation worker", "memory worker", "gateway", "operator"), ack="replay_from_start",
)  # fmt: skip
DELIVERIES = Topic(
    name="deliveries", holds="which gateway's client acknowledged a turn's last frame, and when", key="conversation",
    partitions=4, retention_ms=DAY_MS, cleanup="delete",
    producers=("gateway",), consumers=("gateway", "operator"), ack="manual_assign",
)  # fmt: skip
AUDIT = Topic(
    name="audit", holds="who read what other people said, and who was refused", key="tenant", partitions=1,
    retention_ms=365 * DAY_MS, cleanup="delete",
    producers=("operator",), consumers=("operator",), ack="manual_assign",
)  # fmt: skip

TOPICS: Final[tuple[Topic, ...]] = (
    TURNS, GENERATIONS, CALLS, EVENTS, WORKERS, DEAD_LETTERS, SKILLS, PROMPTS, DELIVERIES, AUDIT,
)  # fmt: skip

USERS: Final[Mapping[str, str]] = {
    "gateway": "gateway", "turns worker": "turns", "generation worker": "generation", "memory worker": "memory",
    "service": "service", "operator": "operator",
}  # fmt: skip
"""By role: the broker's user that processes of this role are."""
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "turns worker": ("turns",), "generation worker": ("generation",), "memory worker": ("memory",),
    "service": ("service.",), "operator": ("archive", "shadow-"),
}  # fmt: skip
"""By role: the consumer groups that it joins. One that ends with a mark goes on with a name (`service.orders`)."""


def by_name(name: str) -> Topic:
    """The row of a topic. Raises KeyError with the known names when there is none."""
    for topic in TOPICS:
        if topic.name == name:
            return topic
    raise KeyError(f"no topic {name!r}; there are {', '.join(topic.name for topic in TOPICS)}")


def prefixed(name: str, namespace: str) -> str:
    """A topic's name in a namespace ("" is production; a shadow or a test has its own)."""
    return f"{namespace}.{name}" if namespace else name
