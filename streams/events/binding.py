"""How a skill's arguments become a request of an HTTP API that has its own ways: method, path, and what goes where.

A skill without a binding gets its arguments as one JSON object, by POST. With one, its owner's API stays as it is.
"""

from __future__ import annotations

import msgspec


class Placement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one argument goes.

    place: "path" (the `{parameter}` of the url), "query", "header", "body" (a member of the body's object) or "content"
    (the whole body). name: what the API calls it, "" the parameter's own name; a path has no other.
    style: how an array or an object is written outside a JSON body: "repeated" (a=1&a=2), "comma" (a=1,2), "space",
    "pipe", "deep" (a[b]=1), "members" (b=1, the object's own members) or "json".
    """

    place: str
    name: str = ""
    style: str = "repeated"


class Credential(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the operator adds to each request, and no manifest, log or model ever holds.

    secret: its name in the file that HEADSTART_SKILL_SECRETS names. place: "header", "query" or "cookie". name: of the
    header, the query's parameter or the cookie. prefix: stands before the secret, such as "Bearer ".
    """

    secret: str
    name: str
    place: str = "header"
    prefix: str = ""


class HttpBinding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The request that a call becomes. The manifest's url is a template: `{parameter}` stands for an argument.

    arguments: every declared parameter's placement. content_type: of the body, JSON or a form. accept: which answers
    are asked for. context: send Headstart-Context and traceparent, which tell for whom the call is; the digest in the
    context is then of `METHOD target`, a line feed and the body.
    """

    method: str = "POST"
    arguments: dict[str, Placement] = msgspec.field(default_factory=dict)
    content_type: str = "application/json"
    accept: str = "application/json"
    credentials: tuple[Credential, ...] = ()
    context: bool = False
