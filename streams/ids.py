"""Identifiers that say where a thing lives and when it began.

Every id is `prefix_` + 4 hex digits of partition + 32 hex digits shaped like a UUIDv7 (RFC 9562): 48 bits of
milliseconds, 4 bits of version, 12 + 2 + 62 bits of randomness or, where a caller gave an idempotency key, of
a hash. So a conversation names the partition it lives on, and a turn is found without an index: its partition
is in its id, and the log is read from the first record at or after its time.

A turn that a client keyed with an `event_id` must have the same id whichever gateway hashes it and however
often it is sent, so it can not carry the time of the submit. It carries the time its conversation opened,
which is a lower bound; an index (Postgres) shortens the search but is never needed for correctness.

Pure: randomness and time are arguments.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

MAX_PARTITIONS: Final = 1 << 16
_BODY = re.compile(r"[0-9a-f]{36}")
CONVERSATION: Final = "conv"
TURN: Final = "turn"
RESPONSE: Final = "resp"


def _uuid7_hex(time_ms: int, entropy: bytes) -> str:
    """32 hex digits: 48 bits of `time_ms`, version 7, variant 10, the rest from the first 10 bytes of `entropy`."""
    bits = int.from_bytes(entropy[:10], "big")
    value = (time_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (bits >> 62 & 0xFFF) << 64 | 0b10 << 62 | bits & (1 << 62) - 1
    return f"{value:032x}"


def _make(prefix: str, partition: int, time_ms: int, entropy: bytes) -> str:
    if not 0 <= partition < MAX_PARTITIONS:
        raise ValueError(f"partition {partition} is outside 0..{MAX_PARTITIONS - 1}")
    return f"{prefix}_{partition:04x}{_uuid7_hex(time_ms, entropy)}"


def conversation_id(partition: int, time_ms: int, entropy: bytes) -> str:
    """A new conversation's id. `entropy`: at least 10 bytes from a CSPRNG, or a hash that makes the id repeatable."""
    return _make(CONVERSATION, partition, time_ms, entropy)


def conversation_entropy(tenant: str, user: str, event_id: str) -> bytes:
    """Entropy that makes the conversation opened by one submit the same however often it is sent."""
    return _digest("conversation", tenant, user, event_id)


def member_conversation(tenant: str, user: str, partitions: int) -> str:
    """Where facts about a member as a whole stand: the id of a conversation that no turn ever opens, the same for
    whoever computes it on a bus of as many partitions."""
    entropy = _digest("member", tenant, user)
    return _make(CONVERSATION, int.from_bytes(entropy[:4], "big") % partitions, 0, entropy[4:])


def turn_id(conversation: str, time_ms: int, entropy: bytes) -> str:
    """The id of a turn nobody keyed: carries the time of its submit."""
    return _make(TURN, partition_of(conversation), time_ms, entropy)


def keyed_turn_id(conversation: str, user: str, event_id: str) -> str:
    """The id of a turn its client keyed: hash(conversation, user, event_id), with the conversation's time."""
    entropy = _digest("turn", conversation, user, event_id)
    return _make(TURN, partition_of(conversation), time_of(conversation), entropy)


def successor_turn_id(turn: str, reason: str) -> str:
    """The turn that follows from another by rule (a steer, an approval): the same for whoever computes it."""
    return _make(TURN, partition_of(turn), time_of(turn), _digest("successor", turn, reason))


def response_of(turn: str) -> str:
    """A turn's response id: the same body, so that either gives the other."""
    return f"{RESPONSE}_{body_of(turn)}"


def turn_of(response: str) -> str:
    """The turn of a response id. Raises ValueError when `response` is not one."""
    if not response.startswith(RESPONSE + "_"):
        raise ValueError("a response id starts with 'resp_'")
    return f"{TURN}_{body_of(response)}"


def item_id(kind: str, turn: str, index: int) -> str:
    """The id of an output item (`msg`, `fc`, `mcpr`) of a turn's response: unique by kind and index."""
    return f"{kind}_{body_of(turn)}{index:02x}"


def call_id(turn: str, index: int) -> str:
    """The id of call number `index` of a turn's plan."""
    return f"call_{body_of(turn)}{index:02x}"


def body_of(identifier: str) -> str:
    """The 36 hex digits after the prefix. Raises ValueError when they are not there."""
    body = identifier.partition("_")[2]
    if not _BODY.fullmatch(body):
        raise ValueError("an id is 'prefix_' followed by 36 lower-case hex digits")
    return body


def is_id(prefix: str, text: str) -> bool:
    """True when `text` is a well-formed id with this prefix."""
    return text.startswith(prefix + "_") and bool(_BODY.fullmatch(text, len(prefix) + 1))


def partition_of(identifier: str) -> int:
    """The partition an id names. Raises ValueError on a malformed id."""
    return int(body_of(identifier)[:4], 16)


def time_of(identifier: str) -> int:
    """Milliseconds since the epoch that an id carries (for keyed turns: when the conversation opened)."""
    return int(body_of(identifier)[4:16], 16)


def _digest(*parts: str) -> bytes:
    """SHA-256 over length-prefixed parts, so that no two lists of parts collide by concatenation."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return digest.digest()


def digest_hex(*parts: str) -> str:
    """64 hex digits of the same length-prefixed SHA-256; used for argument hashes and idempotency keys."""
    return _digest(*parts).hex()
