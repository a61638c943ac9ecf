"""Who read what other people said: facts on `audit`."""

from __future__ import annotations

from streams.events.base import Event, event


@event("log.read", "audit")
class LogRead(Event, frozen=True, kw_only=True):
    """Somebody read turns or memories with a command, or was refused.

    tenant, user, key: whose key was shown, "" where no keys are kept. of_tenant, of_user, conversations, turns: what
    was read ("" and empty: of all). since_ms and until_ms: of when, -1 open. refused: the code of a refusal, "" when
    it was allowed.
    """

    command: str
    at_ms: int
    tenant: str = ""
    user: str = ""
    key: str = ""
    of_tenant: str = ""
    of_user: str = ""
    conversations: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()
    since_ms: int = -1
    until_ms: int = -1
    refused: str = ""
