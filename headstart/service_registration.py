"""A service's manifests on the `skills` topic: registered once, pointed to, withdrawn on request.

The topic is read first, so that what stands there already is not written again, a version that changed is refused
before anything is said, and a name that another owner has in force is left to that owner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from streams.bus import Bus
from streams.codec import decode
from streams.errors import HeadstartError, Refused
from streams.events.registering import SkillManifest, SkillPointed, SkillRegistered
from streams.topology import SKILLS
from workers.skills.catalog import Catalog
from workers.skills.compatibility import breaks

PARTITION = 0  # the topic has one


def versioned(manifest: SkillManifest) -> SkillManifest:
    """The manifest with its version: its own, or for "" the first 12 hex digits of its content's SHA-256."""
    if manifest.version:
        return manifest
    digest = hashlib.sha256(msgspec.json.encode(manifest, order="deterministic")).hexdigest()
    return msgspec.structs.replace(manifest, version=digest[:12])


async def read_catalog(bus: Bus) -> Catalog:
    """What the topic says now. Records that can not be taken are left to the registries that follow it."""
    catalog = Catalog()
    reader = await bus.reader(SKILLS.name, {PARTITION: "earliest"})
    try:
        end = await reader.end_offset(PARTITION)
        while reader.position(PARTITION) < end:
            for record in await reader.batch():
                try:
                    event = decode(record)
                    if isinstance(event, SkillRegistered):
                        catalog.register(event.manifest)
                    elif isinstance(event, SkillPointed):
                        catalog.point(event.name, event.version, event.restores)
                except HeadstartError:
                    continue
    finally:
        await reader.close()
    return catalog


async def register(bus: Bus, owner: str, manifests: Sequence[SkillManifest], now_ms: int) -> list[str]:
    """Puts the manifests in force and gives the ids of those that were not yet.

    Raises, before anything is written, InvalidInput (`invalid_manifest`, `version_changed`) and Refused (`skill_owned`)
    when another owner's skill of that name is in force, or (`breaking_change`, `changes` in its facts) when a version
    breaks the one in force; and what `Bus.publish` raises.
    """
    catalog = await read_catalog(bus)
    for manifest in manifests:
        holder = catalog.by_name(manifest.name)
        if holder is not None and holder.owner != owner:
            raise Refused(
                f"{manifest.name} is in force for another owner", code="skill_owned", skill=manifest.name
            )  # fmt: skip
        if holder is not None and (broken := breaks(holder, manifest)):
            raise Refused(
                f"{manifest.name} would break {holder.id}, which is in force: {'; '.join(broken)}",
                code="breaking_change", hint="keep what it took and promised, or withdraw the skill first",
                skill=manifest.name, changes=broken,
            )  # fmt: skip
    new = [manifest for manifest in manifests if catalog.register(manifest)]
    for manifest in new:
        await _publish(bus, owner, manifest.id, SkillRegistered(manifest=manifest, at_ms=now_ms), now_ms)
    pointed = [manifest for manifest in manifests if catalog.by_name(manifest.name) != manifest]
    for manifest in pointed:
        event = SkillPointed(name=manifest.name, version=manifest.version, at_ms=now_ms)
        await _publish(bus, owner, manifest.name, event, now_ms)
    return [manifest.id for manifest in pointed]


async def withdraw(bus: Bus, owner: str, names: Sequence[str], now_ms: int) -> list[str]:
    """Takes skills of this owner out of force and gives the names of those that were in it."""
    catalog = await read_catalog(bus)
    found = [name for name in names if (one := catalog.by_name(name)) is not None and one.owner == owner]
    for name in found:
        await _publish(bus, owner, name, SkillPointed(name=name, version="", at_ms=now_ms), now_ms)
    return found


async def _publish(bus: Bus, owner: str, key: str, event: SkillRegistered | SkillPointed, now_ms: int) -> None:
    await bus.publish(SKILLS.name, PARTITION, key, event, f"{owner}/{key}/{now_ms}", f"service/{owner}")
