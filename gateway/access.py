"""The door: who a key speaks for, how fast it may ask, and which pages may open a socket.

Every way in passes here: sockets, HTTP, and through them submit, resume, attach, cancel and steer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from gateway.limits import Limits, TokenBucket
from memory.keys import CHAT_SCOPE
from memory.rows import Principal
from memory.store import Store
from streams.errors import NotPermitted, Refused

UNKNOWN_KEY_MS: Final = 2000  # a wrong key is believed wrong for so long, so that guessing does not reach the database
KEYS_KEPT: Final = 10_000
KEY_CHARS: Final = 256  # no key is longer; what is believed wrong must not be large either
SUBPROTOCOL: Final = "headstart.key."  # a browser can set no header: `new WebSocket(url, ["headstart.key.<key>"])`


class Door:
    """Verifies keys, with a bounded cache, and spreads each key's requests over time."""

    def __init__(self, store: Store, limits: Limits, now_ms: Callable[[], int], origins: Iterable[str] = ()) -> None:
        self._store = store
        self._limits = limits
        self._now_ms = now_ms
        self._origins = frozenset(origin.rstrip("/") for origin in origins)
        self._known: OrderedDict[str, tuple[Principal | None, int]] = OrderedDict()
        self._turns: OrderedDict[str, TokenBucket] = OrderedDict()
        self._frames: OrderedDict[str, TokenBucket] = OrderedDict()

    async def admit(self, key: str) -> Principal:
        """Who the key speaks for. Raises NotPermitted: `unauthorized` when it is missing, unknown or revoked,
        `not_permitted` when it was made for something else than this port."""
        if not key:
            raise NotPermitted(
                "an API key is needed", code="unauthorized",
                hint="send 'Authorization: Bearer <key>'; `headstart keys create` makes one",
            )  # fmt: skip
        if len(key) > KEY_CHARS:
            raise NotPermitted("the API key is not known", code="unauthorized", hint="no key is as long as this")
        now_ms = self._now_ms()
        found, until_ms = self._known.get(key, (None, -1))
        if until_ms < now_ms:
            found = await self._store.verify_key(key)
            kept_ms = self._limits.key_cache_ms if found else UNKNOWN_KEY_MS
            self._known[key] = (found, now_ms + kept_ms)
            while len(self._known) > KEYS_KEPT:
                self._known.popitem(last=False)
        if found is None:
            raise NotPermitted("the API key is not known", code="unauthorized", hint="is it revoked, or mistyped?")
        if found.scopes and CHAT_SCOPE not in found.scopes:
            raise NotPermitted(f"the key lacks the scope {CHAT_SCOPE!r}", code="not_permitted")
        return found

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Browsers say which page opens a socket: only the gateway's own pages and the listed ones may.

        Raises NotPermitted (`origin_not_allowed`). Other clients send no Origin and pass.
        """
        origin = headers.get("origin")
        if origin is None or origin.rstrip("/") in self._origins:
            return
        if urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != "":
            return
        raise NotPermitted(
            "this page may not open a socket here", code="origin_not_allowed", hint="add it to HEADSTART_ORIGINS"
        )

    def count_turn(self, principal: Principal) -> None:
        """Raises Refused (`rate_limited`) when the key asks for turns faster than it may."""
        limits = self._limits
        self._count(self._turns, principal, limits.turns_per_second, limits.turns_burst, "turns")

    def count_frame(self, principal: Principal) -> None:
        """The same for frames of any kind."""
        limits = self._limits
        self._count(self._frames, principal, limits.frames_per_second, limits.frames_burst, "frames")

    def _count(
        self, buckets: OrderedDict[str, TokenBucket], principal: Principal, per_second: float, burst: int, what: str
    ) -> None:
        now_ms = self._now_ms()
        bucket = buckets.get(principal.key_id)
        if bucket is None:
            bucket = buckets[principal.key_id] = TokenBucket(per_second, burst, now_ms)
            while len(buckets) > KEYS_KEPT:
                buckets.popitem(last=False)
        wait_ms = bucket.take(now_ms)
        if wait_ms:
            raise Refused(
                f"too many {what} for this key", code="rate_limited", hint=f"try again in {wait_ms} ms",
                retry_after_ms=wait_ms,
            )  # fmt: skip


def key_of(headers: Mapping[str, str], query: str, subprotocols: Iterable[str] = ()) -> str:
    """The key a request carries: `Authorization: Bearer`, a `headstart.key.` subprotocol, or `?key=`; "" when none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    for name in subprotocols:
        if name.startswith(SUBPROTOCOL):
            return name[len(SUBPROTOCOL) :]
    return parse_qs(query).get("key", [""])[0]
