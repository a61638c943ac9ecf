"""What a call can end in instead of a result: the peer-error branch of the tree, with what the turn's ledger asks.

| code | class | sent | what happened |
|---|---|---|---|
| `skill_host_refused` | SkillFailed | no | its host is not one it registered, or an address that may not be reached |
| `skill_unsendable` | SkillFailed | no | an argument does not fit where the API wants it; `parameter` |
| `skill_secret_missing` | SkillFailed | no | the operator holds no such secret for the skill's host |
| `skill_unreachable` | SkillUnreachable | no | no connection: name unknown, refused, or no answer to the handshake |
| `circuit_open` | SkillUnreachable | no | its host failed too often just now; `retry_after_ms` |
| `turn_deadline` | SkillTimeout | either | the turn's own deadline came first |
| `skill_timeout` | SkillTimeout | either | longer than the manifest's timeout_ms, retries and waiting included |
| `skill_disconnected` | SkillBroke | yes | the connection ended before a whole answer |
| `skill_failed` | SkillBroke | yes | it answered 5xx; `status` |
| `skill_busy` | SkillBroke | yes | it answered 408, 425 or 429; `status` |
| `skill_refused` | SkillFailed | yes | it answered another 4xx; `status` |
| `skill_redirected` | SkillFailed | yes | it answered 3xx; redirects are not followed |
| `skill_lied` | SkillFailed | yes | the answer is not what it declared: not JSON, encoded, or not as `returns` says |

Every one carries `facts`: skill, sent (the request may have reached the skill), attempts, took_ms. Pure.
"""

from __future__ import annotations

from typing import Any, ClassVar

from streams.errors import HeadstartError, PeerError, PeerTimeout, PeerUnavailable
from streams.events.registering import SkillManifest

NO_EFFECT_CODES = frozenset({"skill_refused", "skill_redirected", "skill_busy"})
"""Answers by which the skill itself says that it did not do what was asked."""


class SkillFailed(PeerError):
    """The skill or its manifest is wrong: the same call would fail again."""

    retriable: ClassVar[bool] = False
    default_code = "skill_failed"


class SkillBroke(PeerError):
    """The skill failed this time."""

    default_code = "skill_failed"


class SkillTimeout(PeerTimeout):
    default_code = "skill_timeout"


class SkillUnreachable(PeerUnavailable):
    default_code = "skill_unreachable"


def failure(
    cls: type[PeerError], code: str, message: str, manifest: SkillManifest, sent: bool, **facts: Any
) -> PeerError:
    """An error of one of the classes above with the facts each has. Never holds what the skill or a user wrote."""
    return cls(message, code=code, skill=manifest.id, sent=sent, **facts)


def in_doubt(manifest: SkillManifest, error: HeadstartError) -> bool:
    """Whether the call's effect may have happened although it has no result. Never for pure skills."""
    if manifest.effect == "pure":
        return False
    return bool(error.facts.get("sent", False)) and error.code not in NO_EFFECT_CODES
