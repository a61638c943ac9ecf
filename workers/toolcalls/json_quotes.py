"""Whether a double quote ends its string or stands in its text unescaped (repair mode), decided by what follows it.

A quote before a comma or a closing bracket ends its string, always: so nothing that is JSON is read otherwise. What a
model left out or forgot is told apart by what could follow in either case: a further member or element (then a comma
is missing), or anything else (then the quote is text). Once a string holds such a quote, a later one ends it only if
what stands behind its comma is a member or element too; or, where that element has quotes inside itself, if the quotes
in this string are paired. Where both readings hold, the quote ends its string, and the grammar finds the text
malformed.
"""

from __future__ import annotations

import re

_SPACES = frozenset(("", *" \t\r\n"))
_BEFORE_PHRASE = _SPACES | frozenset("([{-/")
_GAP = re.compile(r"[ \t\r\n]*").match
# Space that a quote may have behind it and still be text.
_GAP_MAX = 64
# How far ahead the next quote of a text is looked for.
_NEAR = 256
_KEY = r'"[^"\\\n]{0,64}'
_BARE = r"[A-Za-z_][\w-]{0,63}"
_SPACE = r"[ \t\r\n]{0,64}"
_MEMBER = re.compile(rf'{_KEY}"{_SPACE}[:=]|(?P<bare>{_BARE})[ \t]{{0,8}}:').match
_HALF_MEMBER = re.compile(rf'(?:{_KEY}(?:"{_SPACE})?|{_BARE}[ \t]{{0,8}})\Z').match
_TEXT = r'"(?:[^"\\\n]|\\.){0,256}'
_WORD = r"(?:-?[0-9][0-9.eE+-]{0,40}|true|false|null|True|False|None)"
_ELEMENT = re.compile(rf'[{{\[]|(?:{_TEXT}"|{_WORD}){_SPACE}[,\]]').match
_HALF_ELEMENT = re.compile(rf'(?:{_TEXT}(?:\\|"{_SPACE})?|[-+.\w]{{1,40}}{_SPACE})\Z').match


class Quotes:
    """The quotes that a string holds so far: whether there are any, and whether one of them waits for its partner."""

    __slots__ = ("any", "unpaired")

    def __init__(self) -> None:
        self.any = self.unpaired = False

    def add(self, before: str, after: str) -> None:
        """A quote in the text, between these characters (empty at the string's beginning). Behind a space it opens a
        phrase; behind anything else, without one that is open, it is a mark of its own (`5" wide`).
        """
        self.any = True
        self.unpaired = not self.unpaired and before in _BEFORE_PHRASE and after not in _SPACES


def quote_ends(
    text: str, pos: int, *, of_object: bool, known: frozenset[str] | None, quotes: Quotes, whole: bool
) -> bool | None:
    """Whether the double quote right before `pos` ends its string; None where more text is needed to say.

    `of_object` says that the string is a member's value (else a list's element), `known` which bare keys the object may
    have (None: any), `quotes` what quotes the string holds already, `whole` that no more text will come.
    """
    mended = quotes.any
    # A string with quotes in it is not taken as whole where the text ends: its end would be a guess.
    undecided = not mended if whole else None
    at = _end_of_gap(text, pos)
    if at - pos > _GAP_MAX:
        return True
    if at >= len(text):
        return undecided
    c = text[at]
    if c in "}]":
        return True
    if c == ",":
        if not mended:
            return True
        at = _end_of_gap(text, at + 1)
        if at - pos > _GAP_MAX or (at < len(text) and text[at] in "}]"):
            return True
        if at >= len(text):
            return undecided
        found = _follows(text, at, of_object=of_object, known=known, whole=whole)
        if found is False and not of_object and text[at] == '"':
            return not quotes.unpaired
        return found
    if c == ":":
        return not mended
    if at > pos and c == "#":
        return True
    if c == "/":
        if at + 1 >= len(text):
            return undecided
        if text[at + 1] in "/*":
            return True
    found = _follows(text, at, of_object=of_object, known=known, whole=whole)
    if found is not False:
        return found
    if at == pos and c != '"':
        # `"a "b": 1`: the quote may as well begin a key, with the one before it missing.
        return _follows(text, pos - 1, of_object=True, known=known, whole=whole) if of_object else False
    if of_object or mended or c == '"':
        return False
    # A bare word in a list: text if the next quote ends something.
    end = text.find('"', at, at + _NEAR)
    if end < 0:
        return True if whole or len(text) - at >= _NEAR else None
    end = _end_of_gap(text, end + 1)
    return undecided if end >= len(text) else text[end] not in ',]"}'


def _end_of_gap(text: str, pos: int) -> int:
    match = _GAP(text, pos)
    assert match is not None
    return match.end()


def _follows(text: str, pos: int, *, of_object: bool, known: frozenset[str] | None, whole: bool) -> bool | None:
    """Whether a further member (or element) begins at `pos`; None where more text is needed to say."""
    if of_object:
        match = _MEMBER(text, pos)
        if match is not None:
            return match["bare"] is None or known is None or match["bare"] in known
        return None if not whole and _HALF_MEMBER(text, pos) is not None else False
    if _ELEMENT(text, pos) is not None:
        return True
    return None if not whole and _HALF_ELEMENT(text, pos) is not None else False
