"""Every topic: what it holds, its key, how many partitions, how long it is kept, who writes and who reads it.

`turns`, `calls` and `events` have the same number of partitions and grow together, `events` first, because a
conversation's id names its partition (ids.py) and one owner must see a turn's commands and its facts.
"""

from __future__ import annotations

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
    producers=("gateway", "service"), consumers=("turns worker",), ack="watermark",
)  # fmt: skip
GENERATIONS = Topic(
    name="generations", holds="work for generation workers", key="conversation", partitions=None,
    retention_ms=DAY_MS, cleanup="delete",
    producers=("turns worker", "memory worker"), consumers=("generation worker",), ack="watermark",
)  # fmt: skip
CALLS = Topic(
    name="calls", holds="work for skills that live on the bus", key="conversation", partitions=None,
    retention_ms=DAY_MS, cleanup="delete",
    producers=("turns worker",), consumers=("service",), ack="ack",
)  # fmt: skip
EVENTS = Topic(
    name="events", holds="every fact of every turn, in order: the one log", key="conversation", partitions=None,
    retention_ms=7 * DAY_MS, cleanup="delete",
    producers=("turns worker", "generation worker"),
    consumers=("gateway", "turns worker", "memory worker", "service"), ack="manual_assign",
)  # fmt: skip
WORKERS = Topic(
    name="workers", holds="who is alive, which partitions it holds, how loaded it is", key="worker", partitions=1,
    retention_ms=HOUR_MS, cleanup="compact,delete",
    producers=("turns worker", "generation worker", "memory worker"), consumers=("turns worker", "gateway"),
    ack="replay_from_start",
)  # fmt: skip
DEAD_LETTERS = Topic(
    name="dead_letters", holds="what could not be processed, whole, with the reason", key="source key", partitions=4,
    retention_ms=30 * DAY_MS, cleanup="delete",
    producers=("turns worker", "generation worker", "memory worker", "service"), consumers=("operator",),
    ack="manual_assign",
    record_size_bytes=2 * RECORD_SIZE_BYTES,
)  # fmt: skip
SKILLS = Topic(
    name="skills", holds="skill manifests: name@version is immutable, name points to one", key="name@version, name",
    partitions=1, retention_ms=None, cleanup="compact",
    producers=("service", "turns worker"), consumers=("turns worker", "gateway", "service"), ack="replay_from_start",
)  # fmt: skip
PROMPTS = Topic(
    name="prompts", holds="prompt texts: name@version is immutable, name points to one", key="name@version, name",
    partitions=1, retention_ms=None, cleanup="compact",
    producers=("turns worker",), consumers=("turns worker", "replay"), ack="replay_from_start",
)  # fmt: skip

TOPICS: Final[tuple[Topic, ...]] = (TURNS, GENERATIONS, CALLS, EVENTS, WORKERS, DEAD_LETTERS, SKILLS, PROMPTS)


def by_name(name: str) -> Topic:
    """The row of a topic. Raises KeyError with the known names when there is none."""
    for topic in TOPICS:
        if topic.name == name:
            return topic
    raise KeyError(f"no topic {name!r}; there are {', '.join(topic.name for topic in TOPICS)}")


def prefixed(name: str, namespace: str) -> str:
    """A topic's name in a namespace ("" is production; a shadow or a test has its own)."""
    return f"{namespace}.{name}" if namespace else name
