"""A skill's HTTP answer to the JSON text that the log keeps.

An answer is JSON, whole, identity-encoded and as `returns` says. One that is declared as text (`text/...`) becomes
`{"text": "..."}`. One larger than the manifest's `result_bytes` is cut there, on a character's border: what is kept
is then no longer whole JSON, so it is marked, and `returns` is not asked.
Pure.
"""

from __future__ import annotations

from typing import Any

import orjson

from streams.errors import PeerError
from streams.events.registering import SkillManifest
from workers.skills.failures import SkillBroke, SkillFailed, failure
from workers.skills.manifest import refused_result


def refused_status(manifest: SkillManifest, status: int, **facts: Any) -> PeerError | None:
    """The error that an HTTP status stands for, None for 2xx."""
    if 200 <= status < 300:
        return None
    if status < 400:
        message = "the skill answered with a redirect, which is not followed"
        return failure(SkillFailed, "skill_redirected", message, manifest, True, status=status, **facts)
    if status in (408, 425, 429):
        return failure(SkillBroke, "skill_busy", "the skill is busy", manifest, True, status=status, **facts)
    if status < 500:
        message = f"the skill refused the call with status {status}"
        return failure(SkillFailed, "skill_refused", message, manifest, True, status=status, **facts)
    message = f"the skill failed with status {status}"
    return failure(SkillBroke, "skill_failed", message, manifest, True, status=status, **facts)


def to_result(manifest: SkillManifest, content_type: str, content_encoding: str, body: bytes, cut: bool) -> str:
    """JSON text of at most about `result_bytes` bytes. Raises SkillFailed (`skill_lied`), saying what was expected.

    body: at most `result_bytes`; cut: there was more.
    """
    if content_encoding not in ("", "identity"):
        raise _lied(manifest, "an answer without content encoding, as the request asked for")
    if content_type.startswith("text/"):
        return orjson.dumps({"text": body.decode("utf-8", "ignore" if cut else "replace")}).decode()
    if cut:
        return body.decode("utf-8", "ignore")
    try:
        result = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _lied(manifest, "JSON") from error
    refused = refused_result(manifest, result)
    if refused is not None:
        raise _lied(manifest, f"result{refused.path} to be: {refused.expected}")
    return body.decode()


def _lied(manifest: SkillManifest, expected: str) -> PeerError:
    message = f"the skill's answer is not what it declared: expected {expected}"
    return failure(SkillFailed, "skill_lied", message, manifest, True, expected=expected)
