"""Labelled dialogues: what a memory should know after each, written by hand (data/dialogues.txt) or made.

The templates say each thing in several ways, among them ways that no rule knows, beside questions, wishes and other
people's words that are no facts. The same seed makes the same dialogues.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

FILE: Final = Path(__file__).parent / "data" / "dialogues.txt"
MADE: Final = 100
SEED: Final = 7
Fact = tuple[str, str, str, bool]
"""(subject, attribute, value, negated)"""
Ended = tuple[str, str, str]
"""(subject, attribute, value) of a fact that held and no longer does"""


class Dialogue(msgspec.Struct):
    """source: written | held out (written; nobody looked at them while the rules were written) | made."""

    name: str
    source: str
    messages: list[tuple[str, str]] = []
    facts: list[Fact] = []
    ended: list[Ended] = []


class Family(msgspec.Struct, frozen=True):
    """One thing that is said in several ways. change: a new value takes the place of the old; end: it is denied."""

    attribute: str
    values: tuple[str, ...]
    say: tuple[str, ...]
    change: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ("user",)


CITIES: Final = ("Bern", "Porto", "Leeds", "Oslo", "Graz", "Lyon", "Turin", "Gdansk", "Malaga", "Utrecht")
FAMILIES: Final = (
    Family(
        "lives_in", CITIES,
        ("I live in {v}.", "I'm based in {v}.", "Home for me is {v}.", "We've been living in {v} for years.",
         "{v} is where I live."),
        ("I moved to {v} last month.", "We relocated to {v} in spring.", "I've just moved to {v}, by the way.",
         "My new home is {v}.", "I now live in {v}."),
    ),
    Family(
        "works_as", ("nurse", "carpenter", "teacher", "pharmacist", "plumber", "translator", "baker", "paramedic"),
        ("I work as a {v}.", "I'm a {v}.", "I earn my living as a {v}.", "By profession I am a {v}."),
        ("I'm a {v} now.", "I retrained and work as a {v} now.", "These days I make my money as a {v}."),
    ),
    Family(
        "works_at", ("Siemens", "Bosch", "Nokia", "Ikea", "Migros", "Philips", "Volvo"),
        ("I work at {v}.", "I work for {v}.", "My employer is {v}.", "I'm employed at {v}."),
        ("I'm now working at {v}.", "I joined {v} last week.", "My employer is {v} now."),
    ),
    Family(
        "likes", ("jazz", "chess", "sushi", "hiking", "crime novels", "gardening", "opera"),
        ("I love {v}.", "I really enjoy {v}.", "I like {v} a lot.", "I'm into {v}.", "{v} is my great passion."),
        (), ("I don't like {v} any more.", "I no longer enjoy {v}.", "I've gone off {v}."),
    ),
    Family(
        "name", ("Rex", "Luna", "Bella", "Momo", "Kira", "Oskar"),
        ("My {s} is called {v}.", "My {s}'s name is {v}.", "We named our {s} {v}."), (), (),
        ("dog", "cat", "daughter", "brother", "neighbour"),
    ),
    Family(
        "language", ("French", "German", "Spanish", "Italian"),
        ("Please answer in {v}.", "Always reply in {v}, please.", "I read {v} best, so use that."),
        ("Answer in {v} from now on.", "Switch to {v}, please."),
    ),
    Family(
        "diet", ("vegetarian", "vegan", "pescatarian"),
        ("I'm {v}.", "I am a strict {v}.", "I follow a {v} diet."),
        ("I've become {v}.", "I'm {v} now."),
    ),
    Family(
        "allergic_to", ("peanuts", "shellfish", "gluten", "soy", "pollen"),
        ("I'm allergic to {v}.", "I can't eat {v}.", "{v} makes me ill."),
    ),
    Family("age", ("34", "27", "61", "45"), ("I'm {v} years old.", "I turned {v} this year.", "My age is {v}.")),
    Family(
        "drives", ("Volvo", "Skoda", "Fiat", "Toyota"),
        ("I drive a {v}.", "My car is a {v}."), ("I sold it and drive a {v} now.", "We drive a {v} these days."),
    ),
    Family(
        "favourite colour", ("green", "orange", "navy blue", "yellow"),
        ("My favourite colour is {v}.", "The colour I like best is {v}."),
        ("My favourite colour is {v} now.", "On reflection my favourite colour is {v}."),
    ),
    Family(
        "lives_in", CITIES, ("My {s} lives in {v}.", "My {s} has moved to {v}.", "{v} is where my {s} lives."), (), (),
        ("sister", "uncle", "boss", "grandmother"),
    ),
    Family("learns", ("Japanese", "Polish", "Turkish"), ("I'm learning {v}.", "I take {v} lessons.")),
    Family(
        "plays", ("tennis", "cello", "handball", "piano"), ("I play {v}.", "I play {v} on Sundays."), (),
        ("I stopped playing {v}.", "I gave up {v}."),
    ),
)  # fmt: skip
NO_FACTS: Final = (
    "What is the weather like today?", "Can you find a plumber near the station?", "Thanks, that helps.",
    "If I lived in Paris I would walk everywhere.", "I might move to Vienna one day.",
    "My boss says he loves sailing.", "Would you like a job at Google?", "Do I still live in Rome?",
    "I would love a window seat.", 'The sign said "I love Berlin".', "How old is the Eiffel tower?",
    "Imagine I was a pilot.", "Please find the cheapest train to Basel.", "Who works at Nestle?",
)  # fmt: skip
REPLIES: Final = ("I see.", "Noted.", "Thank you for telling me.", "Of course.", "All right.")


def written() -> list[Dialogue]:
    """The dialogues of the file."""
    found: list[Dialogue] = []
    for line in FILE.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "=":
            held = rest.endswith("[held]")
            found.append(Dialogue(rest.removesuffix("[held]").strip(), "held out" if held else "written"))
        elif kind in ("user:", "assistant:"):
            found[-1].messages.append((kind[:-1], rest))
        elif kind in ("+", "-"):
            subject, attribute, value = (part.strip() for part in rest.split("|"))
            found[-1].facts.append((subject, attribute, value, kind == "-"))
        elif kind == "~":
            subject, attribute, change = (part.strip() for part in rest.split("|"))
            found[-1].ended.append((subject, attribute, change.partition(">")[0].strip()))
    return found


def made(number: int = MADE, seed: int = SEED) -> list[Dialogue]:
    """So many dialogues from the templates."""
    chance = random.Random(seed)
    return [_make(f"made {place}", chance) for place in range(number)]


def every() -> list[Dialogue]:
    return [*written(), *made()]


def _make(name: str, chance: random.Random) -> Dialogue:
    dialogue = Dialogue(name, "made")
    for family in chance.sample(FAMILIES, chance.choice((1, 1, 2))):
        for text in _told(family, dialogue, chance):
            _say(dialogue, text, chance)
            if chance.random() < 0.5:
                _say(dialogue, chance.choice(NO_FACTS), chance)
    return dialogue


def _told(family: Family, dialogue: Dialogue, chance: random.Random) -> Iterator[str]:
    subject = chance.choice(family.subjects)
    value = chance.choice(family.values)

    def text(template: str, value: str) -> str:
        filled = template.format(v=value, s=subject)
        return filled[0].upper() + filled[1:]

    dialogue.facts.append((subject, family.attribute, value, False))
    yield text(chance.choice(family.say), value)
    if family.change and chance.random() < 0.7:
        other = chance.choice([one for one in family.values if one != value])
        dialogue.facts.append((subject, family.attribute, other, False))
        dialogue.ended.append((subject, family.attribute, value))
        yield text(chance.choice(family.change), other)
    elif family.end and chance.random() < 0.6:
        dialogue.facts.append((subject, family.attribute, value, True))
        dialogue.ended.append((subject, family.attribute, value))
        yield text(chance.choice(family.end), value)


def _say(dialogue: Dialogue, text: str, chance: random.Random) -> None:
    dialogue.messages += [("user", text), ("assistant", chance.choice(REPLIES))]
