"""What can be known about somebody: the attributes of facts, which of them have one value, and how each is said.

An attribute that is not in the table (`favourite colour`, a bigger model's own) has one value where its name begins
with `favourite`, else many. Sentences are in the first person, as what a person said of themselves stands in a prompt.

Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

USER: Final = "user"


class Attribute(msgspec.Struct, frozen=True):
    """single: a new value takes the place of the old. said, denied: sentences with {value}, for the user themself; of
    others `of_others`, with {subject} too."""

    single: bool
    said: str
    denied: str
    of_others: str


def _row(single: bool, verb: str, third: str, denied: str) -> Attribute:
    return Attribute(single, f"I {verb} {{value}}.", f"I {denied} {{value}}.", f"My {{subject}} {third} {{value}}.")


ATTRIBUTES: Final[dict[str, Attribute]] = {
    "name": Attribute(True, "My name is {value}.", "My name is not {value}.", "My {subject} is called {value}."),
    "age": _row(True, "am", "is", "am not"),
    "birthday": Attribute(
        True, "My birthday is {value}.", "My birthday is not {value}.", "The birthday of my {subject} is {value}."
    ),
    "lives_in": _row(True, "live in", "lives in", "do not live in"),
    "comes_from": _row(True, "come from", "comes from", "do not come from"),
    "works_at": _row(True, "work at", "works at", "no longer work at"),
    "works_as": _row(True, "work as", "works as", "no longer work as"),
    "studies": _row(True, "study", "studies", "no longer study"),
    "studies_at": _row(True, "study at", "studies at", "no longer study at"),
    "email": Attribute(
        True, "My email is {value}.", "My email is not {value}.", "The email of my {subject} is {value}."
    ),
    "phone": Attribute(
        True, "My phone number is {value}.", "My phone number is not {value}.",
        "The phone number of my {subject} is {value}.",
    ),
    "language": Attribute(
        True, "I want answers in {value}.", "I want no answers in {value}.", "My {subject} wants answers in {value}."
    ),
    "diet": _row(True, "am", "is", "am not"),
    "drives": _row(True, "drive", "drives", "no longer drive"),
    "likes": _row(False, "like", "likes", "do not like"),
    "prefers": _row(False, "prefer", "prefers", "do not prefer"),
    "allergic_to": _row(False, "can not eat", "can not eat", "can eat"),
    "has": _row(False, "have", "has", "no longer have"),
    "speaks": _row(False, "speak", "speaks", "do not speak"),
    "learns": _row(False, "learn", "learns", "no longer learn"),
    "plays": _row(False, "play", "plays", "no longer play"),
    "plans": Attribute(
        False, "I plan: {value}.", "I no longer plan: {value}.", "My {subject} plans: {value}."
    ),
}  # fmt: skip


def is_single(attribute: str) -> bool:
    """Whether the attribute has one value at a time."""
    known = ATTRIBUTES.get(attribute)
    return known.single if known is not None else attribute.startswith("favourite ")


def sentence(subject: str, attribute: str, value: str, negated: bool) -> str:
    """The fact as a sentence for people and prompts."""
    known = ATTRIBUTES.get(attribute)
    if known is None:
        owner = "My" if subject == USER else f"The {subject}'s"
        return f"{owner} {attribute.replace('_', ' ')} is {'not ' if negated else ''}{value}."
    if subject == USER:
        return (known.denied if negated else known.said).format(value=value)
    said = known.of_others.format(subject=subject, value=value)
    return f"It is no longer so: {said}" if negated else said
