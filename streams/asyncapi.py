"""The AsyncAPI 3 document of the bus, for services in any language: made from the topology and the event types.

It is written from a service's point of view: `send` is what a service may write, `receive` what it may read. Topics on
which only workers write and read are left out. Event schemas are those of docs/schemas, with their definitions shared
under `components/schemas` and tuples as JSON Schema draft 07, the dialect of AsyncAPI, writes them.

    python -m streams.asyncapi --write     writes docs/asyncapi.json
    python -m streams.asyncapi --check     exit status 1 when it is not what the code makes
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from streams.events.base import REGISTRY
from streams.events.intake import FACT_BYTES
from streams.schemas import schemas
from streams.topology import CALLS, DEFAULT_PARTITIONS, EVENTS, SKILLS, TURNS, Topic

Json = dict[str, Any]
FILE: Final = Path(__file__).resolve().parent.parent / "docs" / "asyncapi.json"
SENDS: Final = {  # by topic: the types that a service may write; the others of the topic are a gateway's
    TURNS.name: ("headstart.turn.submit.v1", "headstart.fact.publish.v1", "headstart.call.result.v1"),
    SKILLS.name: ("headstart.skill.registered.v1", "headstart.skill.pointed.v1"),
}
RECEIVES: Final = (CALLS, EVENTS, SKILLS)
TOPICS: Final = (TURNS, CALLS, EVENTS, SKILLS)
_OPERATIONS: Final = {
    ("send", "turns"): "Ask the assistant for a member, tell it what happened to one, answer a call. Signed.",
    ("send", "skills"): "Register a version of a skill, then point its name to it; point to \"\" to withdraw it.",
    ("receive", "calls"): "Requests for skills on the bus, in one consumer group per service; `ce_subject` names the "
    "skill, so that others are passed over. Answered by `call.result` on `turns`.",
    ("receive", "events"): "Every fact of every turn, in order within a conversation. Follow a turn by its `ce_id`.",
    ("receive", "skills"): "What is registered and in force, from the beginning of the topic.",
}  # fmt: skip
_RECORD: Final[Json] = {
    "type": "object",
    "required": ["ce_specversion", "ce_type", "ce_id", "ce_source"],
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_type": {"type": "string", "description": "name and version of the event"},
        "ce_id": {
            "type": "string",
            "description": "of a fact on `events` its place, `<turn>/<stage>/<epoch>/<seq>`; else the sender's choice, "
            "and the same for a record that is sent again",
        },
        "ce_source": {"type": "string", "description": "who wrote it; `service/<name>` for a service"},
        "traceparent": {"type": "string", "description": "W3C trace context"},
    },
}  # fmt: skip
_SIGNED: Final[Json] = {
    "type": "object",
    "required": ["ce_keyid", "ce_signature"],
    "properties": {
        "ce_keyid": {"type": "string", "pattern": "^key_[0-9a-f]{12}$", "description": "id of the service's key"},
        "ce_signature": {
            "type": "string", "pattern": "^[0-9a-f]{64}$",
            "description": "hex HMAC-SHA256; the secret is the SHA-256 of the whole key (32 bytes); over ce_type, "
            "ce_id, the topic's name, the record's key and its value, each preceded by its length as 4 bytes, "
            "big-endian",
        },
    },
}  # fmt: skip
_CALLED: Final[Json] = {
    "type": "object",
    "required": ["ce_subject"],
    "properties": {
        "ce_subject": {"type": "string", "description": "the skill, `name@version`"},
        "headstart-context": {
            "type": "string",
            "description": "who the call is for, signed with the signing key that the skill's owner shares: base64url "
            "JSON, `.`, base64url HMAC-SHA256 of the text before the dot; `body_sha256` is of the record's value",
        },
    },
}  # fmt: skip


def document() -> Json:
    """The whole document, keys in the order in which they are read."""
    shared: Json = {}
    messages = {name: _message(name, schema, shared) for name, schema in schemas().items() if _wanted(name)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headstart's bus",
            "version": "1.0.0",
            "description": "What a service says and hears on Headstart's Kafka topics: CloudEvents 1.0 in binary mode, "
            "JSON values. docs/services.md has the conventions with examples; event types evolve by addition only.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}", "protocol": "kafka",
                "description": "Any broker of the cluster that HEADSTART_KAFKA names.",
                "variables": {"bootstrap": {"default": "localhost:9092", "description": "host:port"}},
            }
        },
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {
            "messages": messages,
            "schemas": {
                "RecordHeaders": _RECORD,
                "SignedHeaders": _both(_RECORD, _SIGNED),
                "CallHeaders": _both(_RECORD, _CALLED),
                **dict(sorted(shared.items())),
            },
        },
    }  # fmt: skip


def text() -> str:
    """The document as it stands in its file."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def _wanted(name: str) -> bool:
    return any(name in _messages_of(topic) for topic in TOPICS)


def _messages_of(topic: Topic) -> list[str]:
    """A gateway's own commands are no service's to write, and are not read by one."""
    return [
        name for name in sorted(REGISTRY) if topic.name in REGISTRY[name].TOPICS
        and (topic is not TURNS or name in SENDS[TURNS.name])
    ]  # fmt: skip


def _channel(topic: Topic) -> Json:
    kafka: Json = {
        "topic": topic.name, "partitions": topic.partitions or DEFAULT_PARTITIONS,
        "topicConfiguration": {
            "cleanup.policy": topic.cleanup.split(","), "max.message.bytes": topic.record_size_bytes,
            **({"retention.ms": topic.retention_ms} if topic.retention_ms is not None else {}),
        },
        "bindingVersion": "0.5.0",
    }  # fmt: skip
    where = (
        "The partition is in the id: the four hex digits behind the `_` of a conversation or turn."
        if topic.partitions is None else "One partition."
    )  # fmt: skip
    return {
        "address": topic.name,
        "description": f"{topic.holds[0].upper()}{topic.holds[1:]}. Key: {topic.key}. {where}",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _messages_of(topic)},
        "bindings": {"kafka": kafka},
    }


def _operations() -> Json:
    made: Json = {}
    for action, topics in (("send", (TURNS, SKILLS)), ("receive", RECEIVES)):
        for topic in topics:
            names = SENDS[topic.name] if action == "send" else tuple(_messages_of(topic))
            made[f"{action}_{topic.name}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": _OPERATIONS[action, topic.name],
                "messages": [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in names],
            }
    return made


def _message(name: str, schema: Json, shared: Json) -> Json:
    for key, definition in schema.get("$defs", {}).items():
        shared[key] = _plain(definition)
    topics = schema["x-topics"]
    headers = "CallHeaders" if CALLS.name in topics else "SignedHeaders" if TURNS.name in topics else "RecordHeaders"
    title = name.removeprefix("headstart.")
    said = _plain(REGISTRY[name].__doc__ or title)
    made: Json = {
        "name": name, "title": title, "summary": " ".join(str(said).partition("\n\n")[0].split()),
        "contentType": "application/json",
        "headers": {"$ref": f"#/components/schemas/{headers}"},
        "payload": {"$ref": f"#/components/schemas/{_own(schema)}"},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
    }  # fmt: skip
    if name == "headstart.fact.publish.v1":
        made["description"] = f"At most {FACT_BYTES} bytes of JSON."
    return made


def _both(one: Json, other: Json) -> Json:
    return {
        "type": "object", "required": [*one["required"], *other["required"]],
        "properties": {**one["properties"], **other["properties"]},
    }  # fmt: skip


def _own(schema: Json) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _plain(node: Any) -> Any:
    """A schema in draft 07: definitions are shared, tuples are lists, and a struct kept as an array stays one."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    made: Json = {}
    for key, value in node.items():
        if key == "$ref":
            made[key] = f"#/components/schemas/{str(value).rpartition('/')[2]}"
        elif key == "prefixItems":
            made["items"] = _plain(value)
        elif key == "items" and "prefixItems" in node:
            made["additionalItems"] = _plain(value)
        elif key in ("properties", "$defs"):
            made[key] = {name: _plain(member) for name, member in value.items()}
        elif key in ("enum", "const", "default", "examples"):
            made[key] = value
        else:
            made[key] = _plain(value)
    return made


def main(arguments: list[str]) -> int:
    """See the head of the file."""
    if arguments == ["--write"]:
        FILE.write_text(text())
        return 0
    if arguments != ["--check"]:
        print("usage: python -m streams.asyncapi --write | --check", file=sys.stderr)
        return 2
    if FILE.exists() and FILE.read_text() == text():
        return 0
    print("docs/asyncapi.json is not what the code makes: python -m streams.asyncapi --write", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
