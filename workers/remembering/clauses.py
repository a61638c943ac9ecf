"""A message as clauses that state something, each with its subject: what rules read and a model is shown.

Left out is what states nothing about anybody: questions, what stands in quotation marks, conditions and wishes ("if I
lived", "I might", "I would like"), and what somebody else is said to say. A clause without a subject of its own ("… and
work as a nurse") has that of the clause before; "he", "she" and "it" are the person or thing that was named last.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from workers.remembering.attributes import USER

READ_CHARACTERS: Final = 6_000  # of a message: what is longer is a document and not about its writer
CLAUSE_CHARACTERS: Final = 300
_QUOTED: Final = re.compile(r"[\"“„«][^\"”“»]*[\"”“»]")
_SENTENCE: Final = re.compile(r"[^.!?\n…:]+(?:\.(?=\w)[^.!?\n…:]+)*[.!?\n…:]?")
_CONTRACTIONS: Final = (
    (re.compile(r"\b[Cc]an't\b|\b[Cc]annot\b"), "can not"), (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"(\w)n't\b"), r"\1 not"), (re.compile(r"\bI'm\b", re.I), "I am"), (re.compile(r"'ve\b"), " have"),
    (re.compile(r"\b([Hh]e|[Ss]he|[Ii]t|name)'s\b"), r"\1 is"), (re.compile(r"\b(we|they|you)'re\b", re.I), r"\1 are"),
    (re.compile(r"'d\b"), " would"), (re.compile(r"'ll\b"), " will"), (re.compile(r"\bany ?more\b", re.I), ""),
    (re.compile(r"\bi\b"), "I"),
)  # fmt: skip
_VERBS: Final = (
    "am|is|are|live|lives|work|works|study|studies|like|likes|love|loves|enjoy|hate|have|has|own|play|plays|speak|speaks|"
    "drive|drives|run|moved|switched|prefer|avoid|come|can not|do not|does not|want|need|became|joined|quit|left|sold"
)
_SUBJECTS: Final = r"I|we|my|he|she|it|they|you|there|the|her|his|who|one of"
_BORDER: Final = re.compile(
    rf"[,;]\s*(?:(?:and|but|so|because|although|while|then)\s+)?(?=(?:{_SUBJECTS}|{_VERBS}|if|when|please|actually|"
    rf"sadly|no|not)\b)|\s+(?:and|but|so|because|although|while)\s+(?=(?:{_SUBJECTS}|{_VERBS}|now|also)\b)",
    re.IGNORECASE,
)
_LEAD: Final = re.compile(
    r"^(?:(?:and|but|so|well|yes|no|ok|okay|hi there|hi|hello|hey|oh|sorry|actually|also|by the way|btw|please|exactly|"
    r"remember|note|just|then|great|thanks|on reflection|to be honest|in fact|as I said|since \w+|that|now|fyi|because|"
    r"unfortunately|sadly|these days|nowadays|currently)\b[\s,:-]*)+",
    re.IGNORECASE,
)
_STATES_NOTHING: Final = re.compile(
    r"\b(?:if|imagine|suppose|pretend|whether|unless|might|maybe|perhaps|would|could|should|wish|hope|wondering|"
    r"let|says?|said|thinks?|believes?|told|claims?|heard|asked|want to|going to (?!the\b)[a-z]|used as|you)\b",
    re.IGNORECASE,
)
_MINE: Final = re.compile(
    r"^[Mm]y (?P<noun>[a-z]+(?:-[a-z]+)?)(?:'s (?P<of>[a-z]+))?(?: (?P<name>[A-Z][\w'-]+))?(?=\s)"
)
_OURS: Final = re.compile(r"\b(?:my|mine|me|our|us)\b", re.IGNORECASE)
_PRONOUN: Final = re.compile(r"^(?:he|she|it)\b", re.IGNORECASE)
# What the user has, rather than who they know: "my name" is about the user.
_OWN_WORDS: Final = """
name birthday email mail address number phone age job favourite favorite hobby hometown diet language
"""
_OWN: Final = frozenset(_OWN_WORDS.split())


class Clause(msgspec.Struct, frozen=True):
    """subject: `user`, or the noun that names who or what it is about; "" when it has to do with the user and nobody
    can tell how. text: from its verb on. name: the subject's own
    name where the clause says it, else ""."""

    subject: str
    text: str
    name: str = ""


def plain_words(text: str) -> str:
    """The text with contractions written out and without what stands in quotation marks."""
    text = _QUOTED.sub(" ", text.replace("’", "'"))
    for pattern, instead in _CONTRACTIONS:
        text = pattern.sub(instead, text)
    return text


def clauses(text: str, last: str = "") -> Iterator[Clause]:
    """The clauses of one message. last: who or what was named last before it, for its pronouns."""
    for match in _SENTENCE.finditer(plain_words(text[:READ_CHARACTERS])):
        sentence = match.group().strip()
        if sentence.endswith("?"):
            continue
        subject = ""
        for piece in _BORDER.split(sentence):
            clause = _LEAD.sub("", piece.strip(" ,;:.!…\n")).strip()
            if not clause or len(clause) > CLAUSE_CHARACTERS:
                continue
            found = _subject(clause, subject, last)
            if found is None:
                if _OURS.search(clause) and not _STATES_NOTHING.search(clause):
                    yield Clause("", clause)
                continue
            subject = found.subject
            last = subject if subject != USER else last
            if not _STATES_NOTHING.search(clause):
                yield found


def last_named(text: str, last: str = "") -> str:
    """Who or what a pronoun in the next message would mean."""
    for clause in clauses(text, last):
        last = clause.subject if clause.subject not in ("", USER) else last
    return last


def _subject(clause: str, before: str, last: str) -> Clause | None:
    """Whom the clause is about; None when nobody can tell."""
    if match := _MINE.match(clause):
        noun, name = match["noun"].lower(), match["name"] or ""
        if noun in _OWN:
            return Clause(USER, clause)
        if match["of"]:  # "my dog's name is Rex"
            return Clause(noun, f"{match['of']}{clause[match.end('of') :]}")
        return Clause(noun, clause[match.end() :].strip(), name if name[:1].isupper() else "")
    if match := re.match(r"(?:I|we)\b\s*", clause, re.IGNORECASE):
        return Clause(USER, clause[match.end() :])
    if match := _PRONOUN.match(clause):
        return Clause(last, clause[match.end() :].strip()) if last else None
    if re.match(rf"(?:{_VERBS})\b", clause, re.IGNORECASE):
        return Clause(before or USER, clause)
    if re.match(rf"(?:{_SUBJECTS})\b", clause, re.IGNORECASE):
        return None
    return Clause(USER, clause)
