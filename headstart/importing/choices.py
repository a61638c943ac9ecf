"""What a person decides beside a contract, and what comes of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec

from streams.errors import InvalidInput
from streams.events.registering import SkillManifest
from workers.skills.manifest import EFFECTS


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """owner: the service that owns the skills, "" for one named as the contract is. only, leave_out: names of
    operations or skills, with `*`. prefix: before each skill's name. names: by operation, its skill's name. effects: by
    skill (`*` too), "pure", "irreversible" or "reversible:<the skill that undoes it>". approvals: skills before which a
    person is asked. server: the API's address instead of the document's. secrets: by security scheme, the name of the
    operator's secret. context: tell the API for whom it works. returns: hold answers to what the contract promises.
    """

    owner: str = ""
    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    prefix: str = ""
    names: Mapping[str, str] = {}
    effects: Mapping[str, str] = {}
    approvals: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    server: str = ""
    secrets: Mapping[str, str] = {}
    context: bool = False
    returns: bool = True
    timeout_ms: int = 10_000

    def wanted(self, *names: str) -> bool:
        """Whether an operation that goes by these names is to be imported."""
        return (not self.only or _any(names, self.only)) and not _any(names, self.leave_out)

    def effect(self, name: str, usual: str) -> tuple[str, str]:
        """(effect, compensate) of a skill. Raises InvalidInput (`invalid_effect`)."""
        chosen = self.effects.get(name) or next(
            (effect for pattern, effect in self.effects.items() if fnmatchcase(name, pattern)), usual
        )
        effect, _, compensate = chosen.partition(":")
        if effect not in EFFECTS or bool(compensate) != (effect == "reversible"):
            raise InvalidInput(
                f"{chosen!r} is no effect", code="invalid_effect",
                hint="pure, irreversible or reversible:NAME, the skill that undoes it",
            )  # fmt: skip
        return effect, compensate

    def approval(self, name: str, effect: str) -> bool:
        """Whether a person is asked first. Raises InvalidInput (`not_convertible`) for a skill that was named and has
        another effect than those that can wait for somebody; a pattern passes over it."""
        if effect == "irreversible":
            return _any((name,), self.approvals)
        if name in self.approvals:
            raise unconvertible(f"it is {effect}, so nobody can be asked first", f"--effect {name}=irreversible")
        return False


class LeftOut(msgspec.Struct, frozen=True):
    """An operation that cannot be a skill as it is. hint: what to do about it."""

    operation: str
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.operation}: {self.reason}" + (f" ({self.hint})" if self.hint else "")


class Imported(msgspec.Struct, frozen=True):
    """manifests: valid ones. notes: what of the contract they do not say, in words."""

    manifests: list[SkillManifest]
    left_out: list[LeftOut]
    notes: list[str]


def unconvertible(reason: str, hint: str = "") -> InvalidInput:
    """Why one operation cannot be a skill."""
    return InvalidInput(reason, code="not_convertible", hint=hint or None)


def _any(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
