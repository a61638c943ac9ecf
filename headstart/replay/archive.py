"""The archive: `events` in Parquet files by day, for as long as somebody keeps the folder.

    FOLDER/events/day=2026-02-03/p0003-00000000000000001234.parquet     partition, offset of its first record
    FOLDER/registries/prompts.parquet, skills.parquet                   what the events name, newest of each key

`ArchiveWriter` writes a file when enough has come, and only then says how far it came; after a crash some records stand
in two files, and a reader takes each offset once. `forget` writes the files of a member's conversations anew without
them. Any tool reads the files: `key` is the conversation, `value` the event's JSON, `headers` a JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from headstart.replay.recording import Head, Recording
from streams.codec import Record, decode
from streams.errors import HeadstartError, Misconfigured
from streams.events.conversation import ConversationOpened, FactPublished, MemberForgotten
from streams.events.editing import MemoryEdited
from streams.events.rating import FeedbackGiven
from streams.events.turn import TurnAccepted
from streams.topology import PROMPTS, SKILLS

COLUMNS: Final = ("topic", "partition", "offset", "time_ms", "key", "type", "headers", "value")
DAY_MS: Final = 86_400_000
_SAYS_WHOSE: Final = frozenset(
    kind.TYPE for kind in (ConversationOpened, TurnAccepted, FactPublished, FeedbackGiven, MemoryEdited)
)


class ArchiveWriter:
    """Collects records and writes them. flush_records: a file of one partition and day has at most about as many."""

    def __init__(self, folder: Path, flush_records: int = 50_000) -> None:
        self._folder, self._flush_records = folder, flush_records
        self._waiting: dict[tuple[str, int], list[Record]] = {}
        self._forgotten: dict[tuple[str, str], int] = {}
        self._erased: dict[bytes, int] = {}  # conversations of forgotten members, and up to when
        self.files = 0

    def add(self, record: Record) -> list[tuple[str, str]]:
        """Takes a record of `events`. Gives the members, as (tenant, user), that are to be forgotten because of it:
        in the files that are written; what still comes of theirs from before is not taken."""
        key = record.key or b""
        if (member := _member(record)) in self._forgotten and record.timestamp_ms <= self._forgotten[member]:
            self._erased[key] = self._forgotten[member]
        if record.timestamp_ms <= self._erased.get(key, -1) and record.type != MemberForgotten.TYPE:
            return []
        day = day_of(record.timestamp_ms)
        self._waiting.setdefault((day, record.partition), []).append(record)
        if record.type == MemberForgotten.TYPE:
            event = decode(record)
            assert isinstance(event, MemberForgotten)
            self._forgotten[(event.tenant, event.user)] = event.at_ms
            return [(event.tenant, event.user)]
        return []

    @property
    def waiting(self) -> int:
        return sum(len(records) for records in self._waiting.values())

    @property
    def full(self) -> bool:
        """Enough has come for a file."""
        return self.waiting >= self._flush_records

    def flush(self) -> dict[int, int]:
        """Writes what waits, and gives by partition how far the archive has come: the next offset."""
        reached: dict[int, int] = {}
        for (day, partition), records in sorted(self._waiting.items()):
            name = f"p{partition:04d}-{records[0].offset:020d}.parquet"
            _write(self._folder / "events" / f"day={day}" / name, records)
            self.files += 1
            reached[partition] = max(reached.get(partition, 0), records[-1].offset + 1)
        self._waiting.clear()
        return reached

    def registries(self, topic: str, records: Iterable[Record]) -> None:
        """Writes what a registry holds, beside what it held: compaction of the topic takes nothing from the archive."""
        file = self._folder / "registries" / f"{topic}.parquet"
        newest = {record.key: record for record in [*_read(file), *records]}
        _write(file, list(newest.values()))


def read_archive(folder: Path, since_ms: int = -1, until_ms: int = -1, partitions: set[int] | None = None) -> Recording:
    """What the archive has of a span, with a day on either side for turns that lie across; each record once. Members
    who were forgotten since are left out, also where no file was written anew yet."""
    records: dict[tuple[int, int], Record] = {}
    for file in _files(folder):
        day_ms = ms_of(file.parent.name.removeprefix("day="))
        outside = (since_ms >= 0 and day_ms + 2 * DAY_MS < since_ms) or (until_ms >= 0 and day_ms - DAY_MS > until_ms)
        if outside or (partitions is not None and int(file.name[1:5]) not in partitions):
            continue
        for record in _read(file):
            records.setdefault((record.partition, record.offset), record)
    events = [record for _, record in sorted(records.items())]
    registries = [
        record for topic in (PROMPTS.name, SKILLS.name) for record in _read(folder / "registries" / f"{topic}.parquet")
    ]
    return Recording(Head(origin=f"archive {folder.name}"), [*registries, *events])


def forget(folder: Path, tenant: str, user: str) -> int:
    """Writes every file that has something of this member's conversations anew without it; gives how many records are
    gone. A crash on the way leaves files whole, old or new; forgetting again finishes it."""
    theirs = _conversations_of(folder, tenant, user)
    gone = 0
    for file in _files(folder):
        records = _read(file)
        kept = [record for record in records if record.key not in theirs or record.type == MemberForgotten.TYPE]
        if len(kept) < len(records):
            gone += len(records) - len(kept)
            if kept:
                _write(file, kept)
            else:
                file.unlink()
    return gone


def of_member(folder: Path, tenant: str, user: str) -> Iterator[Record]:
    """The records of this member's conversations, file by file; one that stands in two files comes twice."""
    theirs = _conversations_of(folder, tenant, user)
    for file in _files(folder):
        yield from (record for record in _read(file) if record.key in theirs)


def _conversations_of(folder: Path, tenant: str, user: str) -> set[bytes]:
    """The record keys of a member's conversations."""
    return {
        record.key for file in _files(folder) for record in _read(file)
        if record.key and _member(record) == (tenant, user)
    }  # fmt: skip


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "events").glob("day=*/p*.parquet"))


def _member(record: Record) -> tuple[str, str]:
    """Whose conversation the record says that it stands in, as (tenant, user); ("", "") when it does not say."""
    if record.type not in _SAYS_WHOSE:
        return "", ""
    try:
        event = decode(record)
    except HeadstartError:
        return "", ""
    return getattr(event, "tenant", ""), getattr(event, "user", "")


def day_of(at_ms: int) -> str:
    """The UTC day of a moment, as a folder is named by it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def ms_of(day: str) -> int:
    return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)


def _write(file: Path, records: list[Record]) -> None:
    """The file appears whole or not at all."""
    arrow, parquet = _arrow()
    rows = {
        "topic": [record.topic for record in records],
        "partition": [record.partition for record in records],
        "offset": [record.offset for record in records],
        "time_ms": [record.timestamp_ms for record in records],
        "key": [(record.key or b"").decode() for record in records],
        "type": [record.type for record in records],
        "headers": [json.dumps({name: value.decode() for name, value in record.headers}) for record in records],
        "value": [record.value for record in records],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    parquet.write_table(arrow.table(rows), beside, compression="zstd")
    beside.replace(file)


def _read(file: Path) -> list[Record]:
    """The records of a file, [] when there is none."""
    if not file.exists():
        return []
    _, parquet = _arrow()
    columns = parquet.read_table(file, columns=list(COLUMNS)).to_pydict()
    return list(_records(columns))


def _records(columns: dict[str, list[Any]]) -> Iterator[Record]:
    rows = zip(*(columns[name] for name in COLUMNS), strict=True)
    for topic, partition, offset, time_ms, key, _, headers, value in rows:
        pairs = tuple((name, text.encode()) for name, text in json.loads(headers).items())
        yield Record(topic, partition, offset, time_ms, key.encode() or None, pairs, value)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Misconfigured("the archive needs pyarrow", hint="pip install 'headstart[archive]'") from error
    return pyarrow, pyarrow.parquet


__all__ = ["ArchiveWriter", "day_of", "forget", "ms_of", "of_member", "read_archive"]
