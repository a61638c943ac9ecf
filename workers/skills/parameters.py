"""What a manifest's parameter schema says about names: which exist, which are required, which suffice to fire. Pure."""

from __future__ import annotations

from typing import Any

from streams.events.registering import SkillManifest

Schema = dict[str, Any] | bool


def properties(manifest: SkillManifest) -> dict[str, Schema]:
    """The schema of each parameter by name, in the owner's order; {} when there are none."""
    found = manifest.parameters.get("properties", {})
    return found if isinstance(found, dict) else {}


def required(manifest: SkillManifest) -> tuple[str, ...]:
    """The names of the parameters without which the skill refuses, in the owner's order."""
    found = manifest.parameters.get("required", ())
    return tuple(found) if isinstance(found, list | tuple) else ()


def fire_on(manifest: SkillManifest) -> tuple[str, ...]:
    """The names of the parameters that must be closed before the request may leave.

    The manifest's own choice, else all required ones. () means that nothing less than the closed call suffices: the
    skill is irreversible, or everything it takes is optional, so that only the close says what was meant.
    """
    if manifest.effect == "irreversible":
        return ()
    return manifest.fire_on or required(manifest)
