"""Who may do what at the broker, made from the topology: no rule is written by hand, so none can differ from it.

A role may write the topics that it produces and read those that it consumes; it may join its own groups; and it may ask
how many partitions any topic has and where it ends, which every process does at its start. An idempotent producer needs
no more than the right to write. Whatever is not allowed is refused (the broker's authorizer, with
`allow.everyone.if.no.acl.found=false`). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from streams.topology import GROUPS, TOPICS, USERS, prefixed

Operation = Literal["Read", "Write", "Describe"]
Kind = Literal["topic", "group"]


class Rule(NamedTuple):
    """`user` may do this with the topic or group of this name; prefix: with all whose names begin so."""

    user: str
    operation: Operation
    kind: Kind
    name: str
    prefix: bool = False

    def option(self) -> str:
        """As options of Kafka's own `kafka-acls.sh --add`."""
        pattern = " --resource-pattern-type prefixed" if self.prefix else ""
        return f"--allow-principal User:{self.user} --operation {self.operation} --{self.kind} {self.name}{pattern}"


_ORDER: Final = {"Write": 0, "Read": 1, "Describe": 2}


def rules(namespace: str = "", users: Mapping[str, tuple[str, ...]] | None = None) -> list[Rule]:
    """Every rule, by user. users: other users of some roles than USERS has, one or several each, such as a user for
    each service."""
    held: dict[str, tuple[str, ...]] = {role: (user,) for role, user in USERS.items()} | dict(users or {})
    found = {Rule(user, "Describe", "topic", prefixed(topic.name, namespace)) for topic in TOPICS
             for names in held.values() for user in names}  # fmt: skip
    for topic in TOPICS:
        name = prefixed(topic.name, namespace)
        found |= {Rule(user, "Write", "topic", name) for role in topic.producers for user in held[role]}
        found |= {Rule(user, "Read", "topic", name) for role in topic.consumers for user in held[role]}
    for role, groups in GROUPS.items():
        found |= {
            Rule(user, "Read", "group", prefixed(group, namespace), prefix=not group[-1].isalnum())
            for group in groups
            for user in held[role]
        }
    return sorted(found, key=lambda rule: (rule.user, rule.kind != "topic", rule.name, _ORDER[rule.operation]))


def markdown() -> str:
    """The rules as a table by topic, for a page of documentation."""
    lines = ["| topic | may write | may read |", "|---|---|---|"]
    for topic in TOPICS:
        writers, readers = (
            ", ".join(f"`{USERS[role]}`" for role in USERS if role in roles)
            for roles in (topic.producers, topic.consumers)
        )
        lines.append(f"| `{topic.name}` | {writers} | {readers} |")
    return "\n".join(lines) + "\n"
