"""The values that prompts render: what a plan prompt and an answer prompt may say, and nothing else.

Results of skills are data: cut to a budget, fenced, and never rendered as a message of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from streams.events.intake import ClientTool
from streams.events.recalling import Recalled
from streams.events.registering import SkillManifest
from streams.events.turn import TurnAccepted
from workers.agents.catalog import Agent
from workers.planning.context import Context, context_of
from workers.planning.planned_call import PlannedCall

RESULT_CHARS: Final = 1_200  # of one call's result in the answer prompt: about 300 tokens
NOT_ASKED: Final = "Tell me what happened."  # in place of a question, where a fact has opened the turn
IN_DOUBT: Final = " (nobody knows whether it was done)"
_HANDLES: Final = frozenset({"id"})  # what is for machines, in a list of things that have names


def plan_values(
    accepted: TurnAccepted, question: str, recalled: Recalled, manifests: Iterable[SkillManifest],
    tools: Sequence[ClientTool], agent: Agent,
) -> dict[str, Any]:  # fmt: skip
    """Variables of a plan prompt (workers.agents.prompts.VARIABLES)."""
    manifests = tuple(manifests)
    context = context_of(recalled, agent, {manifest.name for manifest in manifests})
    skills = [_skill(manifest.name, manifest.description, manifest.parameters) for manifest in manifests]
    skills += [_skill(tool.name, tool.description, tool.parameters) for tool in tools]
    return {**_common(accepted, question, context), "skills": skills}


def answer_values(
    accepted: TurnAccepted, question: str, recalled: Recalled, calls: Sequence[PlannedCall], agent: Agent
) -> dict[str, Any]:
    """Variables of an answer prompt. results: one per answered call; failed: one per call without a result, and whether
    that is in doubt. An outcome that calls share is told once."""
    context = context_of(recalled, agent, {_name(call) for call in calls})
    results = [
        {
            "skill": call.skill.partition("@")[0],
            "arguments": _json(call.sent or call.arguments),
            "result": plain(call.result),
        }
        for call in calls
        if call.state == "answered" and call.adopts < 0
    ]
    results += [
        {"skill": "function", "arguments": "", "result": plain(item.output)}
        for item in accepted.input
        if item.kind == "function_call_output"
    ]
    failed = [
        _name(call) + (IN_DOUBT if call.in_doubt else "")
        for call in calls
        if call.state == "failed" and call.adopts < 0
    ]
    examples = [{"question": example.question, "answer": example.answer} for example in context.examples]
    asked = not any(item.kind == "fact" for item in accepted.input) or any(
        item.kind == "message" and item.role == "user" for item in accepted.input
    )
    common = _common(accepted, question if asked else NOT_ASKED, context)
    return {**common, "results": results, "failed": failed, "examples": examples}


def day_of(at_ms: int) -> str:
    """The day of a moment, for a prompt: a turn's own, so the same at every replay."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%A, %d %B %Y")


def _common(accepted: TurnAccepted, question: str, context: Context) -> dict[str, Any]:
    system = "\n".join(item.text for item in accepted.input if item.kind == "message" and item.role != "user")
    return {
        "question": question,
        "history": [{"role": message.role, "text": message.text} for message in context.history],
        "summary": context.summary,
        "recalled": [{"text": item.text, "layer": item.layer} for item in context.items],
        "habits": [item.text for item in context.habits],
        "instructions": "\n".join(part for part in (accepted.options.instructions, system) if part),
        "today": day_of(accepted.at_ms),
        "locale": accepted.options.locale,
        "facts": [{"kind": item.output, "text": item.text} for item in accepted.input if item.kind == "fact"],
    }


def _skill(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    required = set(parameters.get("required", ()))
    shown = [
        {
            "name": key,
            "type": schema.get("type", "any") if isinstance(schema, dict) else "any",
            "description": schema.get("description", "") if isinstance(schema, dict) else "",
            "required": key in required,
        }
        for key, schema in parameters.get("properties", {}).items()
    ]
    return {"name": name, "description": description, "parameters": shown}


def _name(call: PlannedCall) -> str:
    return call.skill.partition("@")[0]


def plain(result: str) -> str:
    """A result as one line of words: `Mary Cole (nurse, Boston); Tim Hale (nurse, Boston)`. Small models read this far
    better than JSON. Cut at RESULT_CHARS; what is not JSON (a cut result) is taken as it is."""
    try:
        text = _words(msgspec.json.decode(result))
    except msgspec.DecodeError:
        text = result
    text = " ".join(text.split())
    return text if len(text) <= RESULT_CHARS else text[:RESULT_CHARS] + "…"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        if len(value) == 1:
            return _words(next(iter(value.values())))
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, list):
        return "; ".join(_row(item) for item in value) or "nothing found"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _row(value: Any) -> str:
    """A list's item: an object by its first name-like text, the rest in brackets."""
    if not isinstance(value, dict):
        return _words(value)
    texts = [_words(item) for key, item in value.items() if key not in _HANDLES and item not in (None, "", [], {})]
    return f"{texts[0]} ({', '.join(texts[1:])})" if len(texts) > 1 else ", ".join(texts)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
