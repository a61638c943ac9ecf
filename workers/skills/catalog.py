"""The skills that were registered, and which version of each is in force.

`name@version` is immutable: the same manifest again changes nothing, another one under the same version is refused.
`name` points to one version, or to none when the skill is withdrawn; versions stay known, since a turn's facts name
them. A version that would break the one in force is refused (compatibility.py). Pure: fed with the `skills` topic's
events in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from streams.errors import InvalidInput
from streams.events.registering import SkillManifest
from workers.skills.compatibility import breaks
from workers.skills.manifest import validate


def visible(manifest: SkillManifest, tenant: str) -> bool:
    """Whether a tenant may use the skill: it names this tenant, or none at all."""
    return not manifest.tenants or tenant in manifest.tenants


class Catalog:
    """What the topic said so far."""

    def __init__(self) -> None:
        self._versions: dict[str, SkillManifest] = {}
        self._in_force: dict[str, SkillManifest] = {}
        self._pointed: dict[str, str] = {}

    def register(self, manifest: SkillManifest) -> bool:
        """Whether the version is new. Raises InvalidInput: `invalid_manifest`, or `version_changed` when this version
        is known with another content."""
        validate(manifest)
        known = self._versions.get(manifest.id)
        if known is None:
            self._versions[manifest.id] = manifest
            return True
        if known != manifest:
            raise InvalidInput(
                f"{manifest.id} is registered with another content", code="version_changed",
                hint="a version never changes; register the new content under a new version", skill=manifest.id,
            )  # fmt: skip
        return False

    def point(self, name: str, version: str, restores: bool = False) -> bool:
        """Whether this changed what is in force. version "": the skill is withdrawn. restores: a registry's word for
        what is in force after it refused a version, which is taken as it is.

        Raises InvalidInput: `unknown_version` for a version that was never registered (or was refused), and
        `breaking_change`, with `changes` in its facts, for one that breaks the version in force. That one stays so.
        """
        if not version:
            self._pointed[name] = ""
            return self._in_force.pop(name, None) is not None
        manifest = self._versions.get(f"{name}@{version}")
        if manifest is None:
            raise InvalidInput(
                f"{name} was pointed to a version that is not registered", code="unknown_version", skill=name
            )
        before = self._in_force.get(name)
        if before is not None and not restores and (broken := breaks(before, manifest)):
            raise InvalidInput(
                f"{manifest.id} breaks {before.id}, which is in force: {'; '.join(broken)}", code="breaking_change",
                hint="keep what it took and promised, or withdraw the skill first", skill=name, changes=broken,
            )  # fmt: skip
        self._pointed[name] = version
        changed = before is not manifest
        self._in_force[name] = manifest
        return changed

    def get(self, skill: str) -> SkillManifest | None:
        """A version by its id `name@version`, in force or not."""
        return self._versions.get(skill)

    def by_name(self, name: str) -> SkillManifest | None:
        """The version of `name` in force; None when there is none."""
        return self._in_force.get(name)

    def version_of(self, name: str) -> str | None:
        """The version `name` points to, "" when it is withdrawn, None when it never pointed anywhere."""
        return self._pointed.get(name)

    def every(self) -> Mapping[str, SkillManifest]:
        """Every version by id; a view that follows the catalog."""
        return MappingProxyType(self._versions)

    def in_force(self, tenant: str | None = None) -> list[SkillManifest]:
        """The versions in force that a tenant may use (None: all), by name."""
        return [
            manifest
            for _, manifest in sorted(self._in_force.items())
            if tenant is None or visible(manifest, tenant)
        ]  # fmt: skip
