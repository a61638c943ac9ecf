"""What the skill that undoes another is sent: its own parameters, by name, from the result and then the arguments.

`save_note(text) -> {"note_id": 7}` is undone by `delete_note(note_id)`: it takes `note_id` from the result. Where
the call has no usable result, the arguments alone may do; otherwise nothing can be sent and a person has to see it.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streams.errors import InvalidInput
from streams.events.registering import SkillManifest
from workers.skills.manifest import validate_arguments
from workers.skills.parameters import properties


def compensation_arguments(undo: SkillManifest, arguments: Mapping[str, Any], result: str) -> dict[str, Any]:
    """The arguments for `undo`. arguments: those of the call to undo; result: its result as JSON text, "" when none.

    Raises InvalidInput (`missing_argument`, `invalid_argument`) when they do not give `undo` what it needs.
    """
    try:
        answered = orjson.loads(result) if result else {}
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            "the result of the call to undo is not whole", code="missing_argument", skill=undo.id
        ) from error
    known = {**arguments, **(answered if isinstance(answered, dict) else {})}
    chosen = {name: known[name] for name in properties(undo) if name in known}
    validate_arguments(undo, chosen)
    return chosen
