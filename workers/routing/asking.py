"""Asking a model to route what the embeddings are unsure about: a closed question with a closed answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from streams.events.generating import Message, Sampling
from workers.agents.catalog import Agent
from workers.agents.prompts import Prompt

NOBODY: Final = "none"
_TEXT: Final = """\
@system
You route requests. Reply with JSON: {"agent": NAME}. The agents:
{% for agent in agents %}
- {{ agent.name }}: {{ agent.description }}
{% endfor %}
- none: the request fits no agent above
{% for agent in agents %}
{% for utterance in agent.utterances %}
@user
{{ utterance }}
@assistant
{"agent": "{{ agent.name }}"}
{% endfor %}
{% endfor %}
@user
{{ question }}
"""
_PROMPT: Final = Prompt("router/route", _TEXT, "route")
PROMPT_REF: Final = _PROMPT.ref


def question(text: str, agents: Sequence[Agent]) -> tuple[tuple[Message, ...], Sampling]:
    """The messages and parameters that ask which of the agents takes `text`. The answer is forced to one of their
    names or `none`."""
    shown = [
        {"name": agent.name, "description": agent.description, "utterances": agent.utterances[:1]} for agent in agents
    ]
    names = [agent.name for agent in agents] + [NOBODY]
    schema = {
        "type": "object",
        "properties": {"agent": {"type": "string", "enum": names}},
        "required": ["agent"],
        "additionalProperties": False,
    }
    return _PROMPT.render(question=text, agents=shown), Sampling(max_tokens=24, json_schema=schema)


def parse(text: str, agents: Sequence[Agent]) -> str:
    """The agent a model chose, "" for none or for anything that is not an agent's name."""
    try:
        chosen = msgspec.json.decode(text, type=dict[str, str]).get("agent", NOBODY)
    except msgspec.DecodeError:
        return ""
    return chosen if any(agent.name == chosen for agent in agents) else ""
