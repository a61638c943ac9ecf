"""Puts the broker's access rules in force, or prints them: a job of the operator, before anything else is started.

    python -m streams.acls apply    makes the topics and the log's epoch, adds the rules that are missing, and removes
                                    those of the same users on the same topics and groups that no row asks for
    python -m streams.acls print    the same rules as lines for Kafka's own kafka-acls.sh
    python -m streams.acls table    the same by topic, as a table in Markdown

The first two take `--namespace NAME`, and `--user ROLE=NAME` for other users than topology.USERS, several times for
several (`--user service=orders --user service=billing`). `apply` needs a user who may do
everything: HEADSTART_KAFKA_USER.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from streams.access import Kind, Operation, Rule, markdown, rules
from streams.errors import HeadstartError, InvalidInput, Misconfigured, PeerUnavailable
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from streams.topology import USERS

# Kafka's numbers (org.apache.kafka.common.resource.ResourceType, PatternType; acl.AclOperation, AclPermissionType).
KINDS: Final[Mapping[Kind, int]] = {"topic": 2, "group": 3}
ANY: Final = 1
LITERAL: Final = 3
PREFIXED: Final = 4
OPERATIONS: Final[Mapping[Operation, int]] = {"Read": 3, "Write": 4, "Describe": 8}
ALLOW: Final = 3
EVERY_HOST: Final = "*"


class Applied(NamedTuple):
    """What `apply` changed."""

    added: list[Rule]
    removed: list[Rule]


async def apply(
    settings: Settings, namespace: str = "", users: Mapping[str, tuple[str, ...]] | None = None
) -> Applied:  # fmt: skip
    """Makes the broker's rules of these users what the topology says. Safe to repeat; what is right stays untouched.

    Raises PeerUnavailable without a broker, Misconfigured when it has no authorizer or this user may not do it.
    """
    wanted = set(rules(namespace, users))
    bus = KafkaBus.from_settings(settings, namespace=namespace, client="headstart-acls")
    await bus.start()
    admin = AIOKafkaAdminClient(**bus.connection.options())
    try:
        await admin.start()
        known = {rule for user in {rule.user for rule in wanted} for rule in await _known(admin, user)}
        ours = {(rule.kind, rule.name) for rule in wanted}
        added = sorted(wanted - known)
        removed = sorted(rule for rule in known - wanted if (rule.kind, rule.name) in ours)
        for rule in added:
            await _ask(admin, CreateAclsRequest(*_fields(rule)), "creation_responses")
        for rule in removed:
            await _ask(admin, DeleteAclsRequest(*_fields(rule)), "filter_responses")
    except KafkaError as error:
        raise PeerUnavailable(f"the broker does not take access rules: {error!r}") from error
    finally:
        await admin.close()
        await bus.stop()
    return Applied(added, removed)


def _fields(rule: Rule) -> tuple[int, str, int, str, str, int, int]:
    pattern = PREFIXED if rule.prefix else LITERAL
    return (
        KINDS[rule.kind], rule.name, pattern, f"User:{rule.user}", EVERY_HOST, OPERATIONS[rule.operation], ALLOW,
    )  # fmt: skip


async def _known(admin: AIOKafkaAdminClient, user: str) -> list[Rule]:
    """The user's rules on topics and groups that are in force, as far as they are of a kind that we make."""
    request = DescribeAclsRequest(ANY, None, ANY, f"User:{user}", None, ANY, ANY)
    answer = await _send(admin, request)
    _check(answer["error_code"], answer["error_message"])
    kinds = {number: kind for kind, number in KINDS.items()}
    operations = {number: operation for operation, number in OPERATIONS.items()}
    return [
        Rule(user, operations[rule["operation"]], kinds[place["resource_type"]], place["resource_name"],
             place["resource_pattern_type"] == PREFIXED)
        for place in answer["resources"]
        for rule in place["acls"]
        if place["resource_type"] in kinds and rule["operation"] in operations
        and rule["permission_type"] == ALLOW and rule["host"] == EVERY_HOST
    ]  # fmt: skip


async def _ask(admin: AIOKafkaAdminClient, request: Any, answers: str) -> None:
    for answer in (await _send(admin, request))[answers]:
        _check(answer["error_code"], answer["error_message"])


async def _send(admin: AIOKafkaAdminClient, request: Any) -> dict[str, Any]:
    """aiokafka has the requests and no methods for them."""
    answer: dict[str, Any] = (await admin._send_to_controller(request)).to_object()
    return answer


def _check(code: int, message: str | None) -> None:
    if code:
        raise Misconfigured(
            f"the broker refuses: {message or for_code(code).__name__}",
            hint="it needs `authorizer.class.name`, and HEADSTART_KAFKA_USER must be among its `super.users`",
        )


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m streams.acls", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("apply", "print", "table"))
    parser.add_argument("--namespace", default="")
    parser.add_argument("--user", action="append", default=[], metavar="ROLE=NAME")
    return parser.parse_args(arguments)


def users_of(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`ROLE=NAME` texts by role; a role may be written as its user is called (`turns`). Raises InvalidInput."""
    roles = {user: role for role, user in USERS.items()} | {role: role for role in USERS}
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        role, _, name = text.partition("=")
        if role not in roles or not name:
            raise InvalidInput(
                f"--user {text} is not ROLE=NAME", code="invalid_user", hint=f"roles are {', '.join(USERS.values())}"
            )
        found[roles[role]] = (*found.get(roles[role], ()), name)
    return found


def main(arguments: Sequence[str]) -> int:
    """0: done; 1: not, with the reason on stderr."""
    chosen = options(arguments)
    try:
        users = users_of(chosen.user)
        if chosen.what == "table":
            sys.stdout.write(markdown())
        elif chosen.what == "print":
            for rule in rules(chosen.namespace, users):
                sys.stdout.write(f"kafka-acls.sh --bootstrap-server $HEADSTART_KAFKA --add {rule.option()}\n")
        else:
            applied = asyncio.run(apply(Settings.from_env(os.environ), chosen.namespace, users))
            sys.stdout.write(f"{len(applied.added)} rules added, {len(applied.removed)} removed\n")
    except HeadstartError as error:
        sys.stderr.write(f"{error.message}{f' ({error.hint})' if error.hint else ''}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
