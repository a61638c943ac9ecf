"""Calls a skill over HTTP: one request on a connection that is already open, its answer as JSON text.

- The request is a POST of the arguments as JSON, or what the manifest's `http` makes of them (http_request.py); then
  an answer without content is null, and for whom the call is is told only where the manifest says so.
- HTTP/2 where TLS agrees on it, else HTTP/1.1 with keep-alive; on cleartext always HTTP/1.1. `warm` opens connections
  before they are needed, so that firing costs no handshake. Redirects are not followed; guard.py says where to.
- `timeout_ms` bounds the whole call, waiting for a place (limits.py) and retries included; so does the turn's deadline.
- A call is sent again only where a second arrival does no harm (pure, or the skill enforces the Idempotency-Key) or
  where nothing was sent; with growing, jittered pauses; while the host's circuit is closed (breaker.py).
- An answer is read until its limit and never held whole; a larger one is cut and its connection closed.

A cancelled call closes its connection (HTTP/2: its stream), so that the skill sees that nobody waits, and leaves
nothing behind; whether its effect happened is unknown. httpcore is used rather than httpx above it, because the
addresses that connections go to must be ours to choose.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpcore
import orjson

from streams.errors import PeerError
from streams.events.registering import SkillManifest
from streams.settings import Settings
from workers.skills.answer import refused_status, to_result
from workers.skills.breaker import Breaker
from workers.skills.connections import SkillPool, SkillRequest
from workers.skills.context import HEADER, CallContext, sign
from workers.skills.execution import Outcome
from workers.skills.failures import SkillBroke, SkillFailed, SkillTimeout, SkillUnreachable, failure
from workers.skills.guard import GuardedBackend, HostRefused, Resolve, system_resolve
from workers.skills.http_request import Made, make
from workers.skills.limits import Limits
from workers.skills.manifest import host_port
from workers.skills.secrets import Secrets
from workers.skills.url_template import template

__all__ = ["CallContext", "HttpExecutor", "Outcome"]

log = logging.getLogger("headstart.skills")
CONNECTIONS: Final = 1_024  # open at once over all hosts, 256 of them idle: about 60 KiB each
IDLE_CONNECTIONS: Final = 256
KEEP_IDLE_S: Final = 300.0
CONNECT_TIMEOUT_MS: Final = 2_000  # a host that does not answer a handshake by then is not there
WARM_TIMEOUT_MS: Final = 5_000
DRAINED_DIGITS: Final = 4  # an error's body of less than 10,000 bytes costs less than a new connection
FIRST_PAUSE_MS: Final = 50
LONGEST_PAUSE_MS: Final = 2_000
_ALWAYS: Final = ((b"accept-encoding", b"identity"), (b"user-agent", b"headstart"))
_JSON: Final = ((b"content-type", b"application/json"), (b"accept", b"application/json"))
_CONTEXT: Final = HEADER.lower().encode()


@functools.lru_cache(4_096)
def _url(text: str) -> tuple[httpcore.URL, bytes]:
    """A skill's url, parsed, and the Host that goes with it."""
    return httpcore.URL(text), urlsplit(text).netloc.encode()


class _Course:
    """What happened so far in one call."""

    def __init__(self, on_sent: Callable[[], None] | None) -> None:
        self.started = time.perf_counter()
        self.attempts = 0
        self.sent = False  # by any attempt: bytes of a request may have left
        self.sent_now = False  # by the newest attempt
        self.sent_ms = 0.0
        self._wired_attempt = 0
        self._on_sent = on_sent

    def took_ms(self) -> float:
        return round((time.perf_counter() - self.started) * 1000, 3)

    def facts(self) -> dict[str, Any]:
        return {"attempts": self.attempts, "took_ms": self.took_ms()}

    async def trace(self, name: str, info: dict[str, Any]) -> None:
        """httpcore's own account of a request on HTTP/2: `http2.send_request_headers.started` and the like."""
        if name.endswith("send_request_headers.started"):
            self.on_sending()
        elif name.endswith("send_request_body.complete"):
            self.on_wire()

    def on_sending(self) -> None:
        """From here on bytes of the newest attempt may have left."""
        self.sent = self.sent_now = True

    def on_wire(self) -> None:
        """The newest attempt's request was written whole."""
        if self._wired_attempt < self.attempts:
            self._wired_attempt, self.sent_ms = self.attempts, self.took_ms()
        if self._on_sent is not None:
            self._on_sent()
            self._on_sent = None


class HttpExecutor:
    """Calls skills from one event loop. Open it with `async with`, or `close` it.

    signing_key: signs Headstart-Context; None sends calls without that header. allow_private: skills may live on
    loopback and private addresses. secrets: what bound skills' requests may carry. clock_ms: wall clock in
    milliseconds. timeout(seconds): bounds each whole call.
    """

    def __init__(
        self, *, signing_key: str | None, allow_private: bool, limits: Limits | None = None,
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random, resolve: Resolve = system_resolve,
        ssl_context: ssl.SSLContext | None = None, timeout: Callable[[float], asyncio.Timeout] = asyncio.timeout,
        secrets: Secrets | None = None,
    ) -> None:  # fmt: skip
        self.limits = limits or Limits()
        self._secrets = secrets or Secrets()
        self._signing_key, self._clock_ms, self._sleep, self._jitter = signing_key, clock_ms, sleep, jitter
        self._timeout = timeout
        self._breakers: dict[str, Breaker] = {}
        self._backend = GuardedBackend(allow_private, resolve)
        self._pool = SkillPool(
            ssl_context=ssl_context or ssl.create_default_context(), max_connections=CONNECTIONS,
            max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=KEEP_IDLE_S, http1=True, http2=True,
            network_backend=self._backend,
        )  # fmt: skip

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            signing_key=settings.signing_key, allow_private=settings.allow_private_skill_hosts or settings.dev,
            secrets=Secrets.load(settings.skill_secrets, os.environ),
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes every connection; calls in progress fail with `skill_disconnected`."""
        await self._pool.aclose()

    @property
    def signing_key(self) -> str | None:
        """Signs Headstart-Context; None: calls carry none."""
        return self._signing_key

    @property
    def connects(self) -> int:
        """How many connections were opened so far."""
        return self._backend.connects

    def breaker(self, place: str) -> Breaker:
        """The breaker of a `host:port`."""
        return self._breakers.setdefault(place, Breaker())

    async def call(
        self, manifest: SkillManifest, arguments: Mapping[str, Any], context: CallContext,
        on_sent: Callable[[], None] | None = None,
    ) -> Outcome:  # fmt: skip
        """Sends the arguments, which must be valid and without references, and gives the answer.

        on_sent: called once, when the request was first written whole. Raises the errors of failures.py; what of the
        effect may have happened then is `failures.in_doubt`.
        """
        course = _Course(on_sent)
        place = host_port(manifest.url)
        if place is None or place not in manifest.hosts:
            raise self._refused(manifest, course, "the skill's url is not on a host that it registered")
        allowed_ms, code = float(manifest.timeout_ms), "skill_timeout"
        if context.deadline_at_ms and context.deadline_at_ms - self._clock_ms() < allowed_ms:
            allowed_ms, code = context.deadline_at_ms - self._clock_ms(), "turn_deadline"
        try:
            if allowed_ms <= 0:
                raise TimeoutError
            async with (
                self._timeout(allowed_ms / 1000) as scope,
                self.limits.place(manifest.name, manifest.concurrency, context.tenant, context.turn),
            ):
                return await self._attempts(
                    manifest, place, self._made(manifest, place, arguments, course), context, course, scope
                )  # fmt: skip
        except TimeoutError:
            message = f"no answer within {max(0, round(allowed_ms))} ms"
            raise failure(SkillTimeout, code, message, manifest, course.sent, **course.facts()) from None

    async def warm(self, manifests: Iterable[SkillManifest], connections: int = 1) -> None:
        """Opens connections (TLS too) to these skills' hosts, up to `connections` idle ones each.

        They are opened by an OPTIONS request, which changes nothing. A host that can not be reached is logged; its
        next call says so. Never raises for a skill's sake.
        """
        urls = {
            place: one.url if one.http is None else template(one.url).origin
            for one in manifests
            if (place := host_port(one.url)) is not None and place in one.hosts
        }
        tasks = []
        for url in urls.values():
            origin = httpcore.URL(url).origin
            idle = sum(1 for one in self._pool.connections if one.can_handle_request(origin) and one.is_idle())
            tasks += [self._open(url) for _ in range(connections - idle)]
        await asyncio.gather(*tasks)

    async def _open(self, url: str) -> None:
        try:
            async with asyncio.timeout(WARM_TIMEOUT_MS / 1000), self._pool.stream("OPTIONS", url) as response:
                async for _ in response.aiter_stream():
                    pass
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            log.info("a skill's host could not be warmed: %s", type(error).__name__, extra={"url": url})

    async def _attempts(
        self, manifest: SkillManifest, place: str, made: Made, context: CallContext, course: _Course,
        scope: asyncio.Timeout,
    ) -> Outcome:  # fmt: skip
        pause_ms = FIRST_PAUSE_MS
        while True:
            try:
                return await self._attempt(manifest, place, made, context, course, scope)
            except PeerError as error:
                error.facts.update(course.facts(), sent=course.sent)
                harmless = not course.sent_now or manifest.effect == "pure" or manifest.idempotent_key
                if not (error.retriable and harmless and course.attempts <= manifest.retries):
                    raise
                if error.code == "circuit_open":
                    raise
            await self._sleep(pause_ms * (0.5 + self._jitter() / 2) / 1000)
            pause_ms = min(2 * pause_ms, LONGEST_PAUSE_MS)

    async def _attempt(
        self, manifest: SkillManifest, place: str, made: Made, context: CallContext, course: _Course,
        scope: asyncio.Timeout,
    ) -> Outcome:  # fmt: skip
        """One request, and what it says about its host."""
        breaker = self.breaker(place)
        wait_ms = breaker.ask(int(self._clock_ms()))
        if wait_ms is not None:
            message = "the skill's host failed too often just now"
            raise failure(SkillUnreachable, "circuit_open", message, manifest, course.sent, retry_after_ms=wait_ms)
        course.attempts += 1
        course.sent_now = False
        try:
            outcome = await self._send(manifest, made, context, course)
        except PeerError as error:
            if isinstance(error, SkillUnreachable) or error.code in ("skill_disconnected", "skill_failed"):
                breaker.failed(int(self._clock_ms()))
            elif error.code == "skill_host_refused":
                breaker.abandoned(int(self._clock_ms()))
            else:  # it answered; that it refused or lied says nothing against asking it something else
                breaker.succeeded()
            raise
        except BaseException:
            if scope.expired():
                breaker.failed(int(self._clock_ms()))
            else:
                breaker.abandoned(int(self._clock_ms()))
            raise
        breaker.succeeded()
        return outcome

    async def _send(self, manifest: SkillManifest, made: Made, context: CallContext, course: _Course) -> Outcome:
        extensions = {
            "trace": course.trace, "sending": course.on_sending, "sent": course.on_wire,
            "timeout": {"connect": CONNECT_TIMEOUT_MS / 1000},
        }  # fmt: skip
        headers = self._headers(manifest, made, context)
        url, _ = _url(manifest.url)
        if manifest.http is not None:
            url = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=made.target)
        request = SkillRequest(url, headers, made.body, extensions, made.method)
        try:
            async with self._pool.exchange(request) as response:
                fields = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                refused = refused_status(manifest, response.status)
                if refused is not None:
                    if len(declared := fields.get(b"content-length", "")) <= DRAINED_DIGITS and declared.isdecimal():
                        await response.aread()  # so that the connection can be used again
                    raise refused
                content, cut, size_bytes = await _read(response, manifest.result_bytes, fields)
        except HostRefused as error:
            raise self._refused(manifest, course, "the skill's host has an address that may not be reached") from error
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
            message = "the skill's host could not be reached"
            raise failure(SkillUnreachable, "skill_unreachable", message, manifest, course.sent) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            message = "the connection ended before the skill's whole answer"
            raise failure(SkillBroke, "skill_disconnected", message, manifest, course.sent) from error
        if manifest.http is not None and not content:
            content, fields[b"content-type"] = b"null", "application/json"
        content_type = fields.get(b"content-type", "application/json").lower()
        result = to_result(manifest, content_type, fields.get(b"content-encoding", "").lower(), content, cut)
        return Outcome(
            result=result, status=response.status, took_ms=course.took_ms(), sent_ms=course.sent_ms,
            size_bytes=size_bytes, cut=cut, attempts=course.attempts,
        )  # fmt: skip

    def _made(self, manifest: SkillManifest, place: str, arguments: Mapping[str, Any], course: _Course) -> Made:
        """The request, whoever it is for. Raises SkillFailed (`skill_unsendable`, `skill_secret_missing`)."""
        if manifest.http is None:
            body = orjson.dumps(arguments)
            return Made(b"POST", b"", [*_JSON, (b"content-length", b"%d" % len(body))], body, body)

        def secret(name: str) -> str:
            text = self._secrets.find(name, place)
            if text is None:
                message = f"there is no secret {name} for {place}"
                raise failure(SkillFailed, "skill_secret_missing", message, manifest, False)
            return text

        try:
            return make(manifest, manifest.http, arguments, secret)
        except PeerError as error:
            error.facts.update(course.facts())
            raise

    def _headers(self, manifest: SkillManifest, made: Made, context: CallContext) -> list[tuple[bytes, bytes]]:
        headers = [(b"host", _url(manifest.url)[1]), *made.headers, *_ALWAYS]
        if context.key:
            headers.append((b"idempotency-key", context.key.encode()))
        if manifest.http is not None and not manifest.http.context:
            return headers
        if context.traceparent:
            headers.append((b"traceparent", context.traceparent.encode()))
        if self._signing_key is not None:
            now_ms = int(self._clock_ms())
            headers.append((_CONTEXT, sign(context, manifest.name, made.signed, now_ms, self._signing_key).encode()))
        return headers

    def _refused(self, manifest: SkillManifest, course: _Course, message: str) -> PeerError:
        return failure(SkillFailed, "skill_host_refused", message, manifest, course.sent, **course.facts())


async def _read(response: httpcore.Response, limit: int, fields: Mapping[bytes, str]) -> tuple[bytes, bool, int]:
    """(at most `limit` bytes, whether there was more, the whole size as far as known). The rest is never read."""
    kept = bytearray()
    async for chunk in response.aiter_stream():
        kept += chunk
        if len(kept) > limit:
            declared = fields.get(b"content-length", "")
            return bytes(kept[:limit]), True, int(declared) if declared.isdecimal() else len(kept)
    return bytes(kept), False, len(kept)
