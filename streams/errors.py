"""The error tree: whose fault, whether trying again helps, and a hint how out.

Every error that can reach a person or a service is a `HeadstartError`. `code` is stable and is what clients
match on; `message` is for people; neither ever contains text a user wrote.

    HeadstartError
    ├── CallerError       the one who sent it must change something
    │   ├── InvalidInput      the frame, record or argument is not what was expected
    │   ├── NotPermitted      the key, tenant or user may not do this
    │   ├── NotFound          no such conversation, response, model, skill
    │   └── Refused           understood and permitted, but not now (busy, over quota, too late)
    ├── PeerError         a part we talk to misbehaved (a skill, a model, the broker, the database)
    │   ├── PeerTimeout
    │   └── PeerUnavailable
    └── OurError          a defect or an exhausted limit on our side
        ├── UnknownEvent      an event of a type or version this build does not know
        └── Misconfigured     a setting is missing or wrong; the process does not start
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Fault = Literal["caller", "peer", "ours"]


class HeadstartError(Exception):
    """Base of all typed errors.

    `code`: stable, lower_snake_case. `hint`: what to do about it, or None. `facts`: JSON-serialisable fields
    that name what was involved (ids, sizes, limits), safe to log.
    """

    fault: ClassVar[Fault] = "ours"
    retriable: ClassVar[bool] = False
    default_code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class CallerError(HeadstartError):
    fault = "caller"
    default_code = "bad_request"


class InvalidInput(CallerError):
    default_code = "invalid_input"


class NotPermitted(CallerError):
    default_code = "not_permitted"


class NotFound(CallerError):
    default_code = "not_found"


class Refused(CallerError):
    default_code = "refused"


class PeerError(HeadstartError):
    fault = "peer"
    retriable = True
    default_code = "peer_error"


class PeerTimeout(PeerError):
    default_code = "peer_timeout"


class PeerUnavailable(PeerError):
    default_code = "peer_unavailable"


class OurError(HeadstartError):
    default_code = "internal_error"


class UnknownEvent(OurError):
    default_code = "unknown_event"


class Misconfigured(OurError):
    default_code = "misconfigured"
