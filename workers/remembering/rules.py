"""Facts by rule: what people say about themselves in the usual words, read without a model.

Each rule is a pattern over the verb phrase of a clause (clauses.py). They are exact rather than complete: what they do
not know a model may read (extraction.py). A denial in front ("no longer", "do not", "stopped") is taken off, and what
is left is read by the same rules. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from workers.remembering.attributes import USER
from workers.remembering.clauses import Clause, clauses, last_named, plain_words

RULE_CONFIDENCE: Final = 0.9


class Said(msgspec.Struct, frozen=True):
    """One fact as it was said. value: words of the message."""

    subject: str
    attribute: str
    value: str
    negated: bool = False
    confidence: float = RULE_CONFIDENCE


_UNTIL: Final = (
    r"(?=\s+(?:and|but|so|because|since|for|who|which|where|although|though|when|while|these days|nowadays|now|"
    r"at the moment|at|as|please|sadly|too|either|as well|last|this|next|again|with|on|from|every|instead|now|in \d{4}|"
    r"in (?:spring|summer|autumn|winter|[A-Z][a-z]+))\b|\s*[.,;!?…()]|\s*$)"
)
_NAME: Final = r"(?P<v>[A-ZÀ-Þ][\w'-]*(?: [A-ZÀ-Þ][\w'-]+)*)"
_PLACE: Final = r"(?P<v>(?:the )?[A-ZÀ-Þ][\w'-]+(?:(?: of| am| de| la| upon)? [A-ZÀ-Þ][\w'-]+)*|(?!(?:a|an|the|my|this|that|it|here|there|fear|peace|hope)\b)[a-zà-þ]{3,})"  # noqa: E501
_WORDS: Final = r"(?P<v>(?!(?:it|that|this|you|them|him|her|to|how|when|what)\b)\w[^.,;!?()]*?)" + _UNTIL
_NOT_LISTED: Final = r"(?!(?:I|we|my|he|she|it|they|you|also|now|then)\b)"
_LIST: Final = (
    rf"(?P<list>{_NOT_LISTED}\w[^,.;!?()]*?(?:(?:, and |, | and | or ){_NOT_LISTED}[^,.;!?()]+?)*)"
    r"(?=\s+(?:but|so|because|since|although|though|when|while|on|every|with|these days|too|as well|very much)\b"
    r"|\s*[.;!?…()]|\s*,\s*(?:so|but|and I)\b|\s*$)"
)
_NUMBER: Final = r"(?:\d+|two|three|four|five|six|seven|eight|nine|ten|a|an|one)"
_KIN: Final = (
    "dog|cat|rabbit|horse|hamster|parrot|fish|puppy|kitten|pet|pets|dogs|cats|son|sons|daughter|daughters|child|children|"
    "kid|kids|brother|brothers|sister|sisters|twins|baby|house|garden|boat|bike|motorbike|car|piano|guitar|flat|wife|"
    "husband|girlfriend|boyfriend"
)
_JOB: Final = (
    r"(?:[a-z]+ )?(?:\w{2,}(?:er|or|ist|ian|ant|eer|smith)|nurse|doctor|chef|cook|pilot|lawyer|clerk|judge|student|"
    r"barista|architect|mechanic|therapist|vet|guide|coach|nanny|scientist|analyst|plumber|surgeon)"
)
_NO_JOB: Final = r"(?!(?:beginner|member|lover|customer|user|believer|winner|fighter|mother|father|brother|sister|foreigner|loner|stranger|supporter|owner|owner|bit|number|morning|night|big|huge)\b)"  # noqa: E501
_BE: Final = r"(?:am|is|are|have been|has been|was)"
_HABITUAL: Final = r"(?:(?:also|really|actually|still|now|currently|just|always|usually|mostly|originally|both|only|recently|absolutely|do|am now|have|has|have just|have recently|have been|has been|am|is)\s+)*"  # noqa: E501
_LANGUAGE: Final = (
    r"(?P<v>English|German|French|Spanish|Italian|Portuguese|Dutch|Polish|Russian|Japanese|Chinese|Korean|Arabic|Hindi|"
    r"Turkish|Swedish|Greek|Czech|Finnish|Danish|Norwegian|Ukrainian)"
)
_DIET: Final = r"(?P<v>vegetarian|vegan|pescatarian|pescetarian|flexitarian|kosher|halal)"
# Capitalised words after "I am" that are no name.
_NO_NAME_WORDS: Final = "German French English Spanish Italian Swiss American Vegan Vegetarian Fine Ok Sorry"
_NO_NAMES: Final = frozenset(_NO_NAME_WORDS.split())

_RULES: Final[tuple[tuple[str, bool, re.Pattern[str]], ...]] = tuple(
    (attribute, negated, re.compile(rf"^{_HABITUAL}{pattern}", re.IGNORECASE if attribute in ("diet",) else 0))
    for attribute, negated, pattern in (
        ("name", False, rf"(?:[Mm]y name is|name is|{_BE} (?:called|named)|go by|[Cc]all me) (?:now )?{_NAME}"),
        ("lives_in", False, rf"(?:live|lives|living|reside|resides|based|settled) (?:in|at|near) {_PLACE}"),
        ("lives_in", False, rf"(?:moved|relocated|moving)(?: back| over)? to {_PLACE}"),
        ("comes_from", False, rf"(?:come|comes|{_BE}|came)?\s*(?:originally )?from {_PLACE}"),
        ("comes_from", False, rf"(?:grew up|was born|were born|born) in {_PLACE}"),
        ("works_at", True, rf"(?:quit|left|resigned from) (?:my job at )?{_NAME}"),
        ("works_at", False, rf"(?:work|works|working|employed|started|joined)(?: now)?(?: at| for| by| with)? {_NAME}"),
        ("works_as", False, rf"(?:work|works|working|employed)(?: [a-z]+)? as (?:an? |the )?{_WORDS}"),
        ("works_as", False, rf"(?:{_BE}|became)\s+(?:an? |the ){_NO_JOB}(?P<v>{_JOB})\b(?! of\b)"),
        ("works_as", False, rf"(?:[Aa]s )?(?:an? )(?P<v>{_JOB}){_UNTIL}"),
        ("works_as", False, rf"(?:run|runs|own|owns|manage|manages) (?:an? |the |my )(?P<v>[a-z ]*(?:bakery|shop|company|restaurant|cafe|farm|studio|practice|business|store|bar|hotel)){_UNTIL}"),  # noqa: E501
        ("studies", False, rf"(?:study|studies|studying) (?!at\b|for\b|in\b){_WORDS}"),
        ("age", False, r"(?:am|is|turned|just turned) (?P<v>\d{1,3})(?: years old| this| last|\s*$|\s*,)"),
        ("age", False, r"(?:am|is) (?P<v>\w+(?:-\w+)?) years old"),
        ("birthday", False, rf"(?:[Mm]y )?birthday is (?:on )?(?:the )?{_WORDS}"),
        ("birthday", False, rf"(?:was )?born on (?:the )?{_WORDS}"),
        ("email", False, r".*?\b(?P<v>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"),
        ("phone", False, r".*?\b(?:phone|number|mobile)\b.*?(?P<v>\+?\d[\d /()-]{5,}\d)"),
        ("language", False, rf"(?:[Aa]nswer|[Rr]eply|[Rr]espond|[Ww]rite|[Tt]alk)(?: to)?(?: me)?(?: only| always)? in {_LANGUAGE}"),  # noqa: E501
        ("diet", False, rf"(?:{_BE}|become|became|turned|eat|eats)\s+(?:now )?(?:an? |strictly )?{_DIET}"),
        ("drives", False, rf"(?:drive|drives|driving) (?:an? |my |the )(?!.*\b(?:to|home)\b){_WORDS}"),
        ("allergic_to", False, rf"(?:{_BE})?\s*(?:very |severely )?(?:allergic|intolerant) to {_LIST}"),
        ("allergic_to", False, r"(?:am|is) (?P<v>[a-z]+) intolerant"),
        ("has", False, rf"(?:have|has|have got|has got|got|own|owns|adopted|bought) (?:an? |the )?(?P<v>(?:{_NUMBER} )?(?:[a-z]+ )?(?:{_KIN}))\b"),  # noqa: E501
        ("speaks", False, rf"(?:speak|speaks) {_LIST}"),
        ("learns", False, rf"(?:learn|learns|learning) (?!how\b|to\b|about\b|that\b){_LIST}"),
        ("plays", False, rf"(?:play|plays|playing) (?!a role\b|with\b){_LIST}"),
        ("plans", False, rf"(?P<v>(?:flying|going|travelling|traveling|driving|moving) to {_PLACE.replace('?P<v>', '?:')}(?: (?:in|on|next|this) \w+)?|visiting {_PLACE.replace('?P<v>', '?:')}(?: (?:in|on|next|this) \w+)?)"),  # noqa: E501
        ("likes", True, rf"(?:hate|hates|dislike|dislikes|can not stand|can not bear|detest|am not a fan of) {_LIST}"),
        ("likes", False, rf"(?:like|likes|love|loves|enjoy|enjoys|adore|am fond of|am into|am a (?:big |huge )?fan of) (?!it\b|that\b|this\b|you\b|how\b|when\b){_LIST}"),  # noqa: E501
        ("prefers", False, rf"(?:prefer|prefers) {_WORDS}"),
    )
)  # fmt: skip
_CAN_NOT_EAT: Final = re.compile(rf"^(?:can not|do not|must not|never) eat {_LIST}")
_FAVOURITE: Final = re.compile(rf"^[Mm]y favou?rite (?P<of>[a-z]+(?: [a-z]+)?) (?:is|are) (?:now )?{_WORDS}")
_I_AM: Final = re.compile(rf"^am {_NAME}(?:$|,)")
_CALLED: Final = re.compile(rf"\b(?P<of>{_KIN})(?:,)? (?:called|named) {_NAME}")
_STUDIES_AT: Final = re.compile(
    r"\bat (?:the )?(?P<v>(?:University|College|School|Institute|ETH)\b[\w ]*|[A-Z]\w+ University)"
)
_DENIAL: Final = re.compile(
    r"^(?:(?:also|really|actually|still|sadly)\s+)*(?:(?P<be>am|is|are) (?:no longer|not)|no longer|never|do not|"
    r"does not|(?:have |has )?stopped|gave up|used to|not)\s+(?:be\s+)?(?P<rest>.+)$"
)
_ARTICLE: Final = re.compile(r"^(?:a little|a bit of|some|an?|the|to)\s+", re.IGNORECASE)
_LIST_BORDER: Final = re.compile(r", and |, | and | or ")
_EMPTY_WORDS: Final = "it that this them you him her things stuff something anything here there everything"
_EMPTY: Final = frozenset(_EMPTY_WORDS.split())


def read(text: str, last: str = "") -> list[Said]:
    """The facts of one message of the user, in order. last: see `clauses.clauses`."""
    found: list[Said] = []
    for clause in clauses(text, last):
        for said in _of_clause(clause) if clause.subject else ():
            if said not in found:
                found.append(said)
    if not any(said.attribute == "email" for said in found):
        found += _reachable(text)
    return found


def mentions(text: str, last: str = "") -> bool:
    """Whether the message states anything about somebody, so that it is worth a model's time."""
    return any(clause.subject for clause in clauses(text, last))


def leaves_something(text: str, last: str = "") -> bool:
    """Whether the message has a clause that states something and that no rule read."""
    return any(not clause.subject or not list(_of_clause(clause)) for clause in clauses(text, last))


def named_last(text: str, last: str = "") -> str:
    """See `clauses.last_named`."""
    return last_named(text, last)


def _of_clause(clause: Clause) -> Iterator[Said]:
    if clause.name:
        yield Said(clause.subject, "name", clause.name)
    if match := _FAVOURITE.match(clause.text):
        yield Said(clause.subject, f"favourite {match['of']}", _trimmed(match["v"]))
        return
    if match := _CAN_NOT_EAT.match(clause.text):
        yield from _each(clause.subject, "allergic_to", match["list"], False)
        return
    text, denied = clause.text, False
    if (match := _DENIAL.match(text)) and not re.match(r"^(?:like|enjoy)", match["rest"]):
        text, denied = f"{match['be'] or ''} {match['rest']}".strip(), True
    elif match:
        text, denied = match["rest"], True
    yield from _of_phrase(clause.subject, text, denied)


def _of_phrase(subject: str, text: str, denied: bool) -> Iterator[Said]:
    if (match := _I_AM.match(text)) and subject == USER and match["v"].split()[0] not in _NO_NAMES and not denied:
        yield Said(USER, "name", match["v"])
        return
    for attribute, negative, pattern in _RULES:
        match = pattern.match(text)
        if match is None:
            continue
        groups = match.groupdict()
        negated = negative != denied if attribute == "likes" else negative or denied
        if groups.get("list"):
            yield from _each(subject, attribute, groups["list"], negated)
        elif value := _trimmed(groups["v"]):
            yield Said(subject, attribute, value, negated)
        break
    if (match := _CALLED.search(text)) and not denied:
        yield Said(match["of"], "name", match["v"])
    if (match := _STUDIES_AT.search(text)) and re.match(r"^(?:am |is )?stud(?:y|ies|ying)\b", text):
        yield Said(subject, "studies_at", match["v"].strip(), denied)


def _each(subject: str, attribute: str, listed: str, negated: bool) -> Iterator[Said]:
    for item in _LIST_BORDER.split(listed):
        value = _trimmed(item)
        if value and value.lower() not in _EMPTY:
            yield Said(subject, attribute, value, negated)


def _trimmed(value: str) -> str:
    return _ARTICLE.sub("", value.strip(" ,.;:'")).strip()


def _reachable(text: str) -> list[Said]:
    """An address that is given without a sentence about it: "You can reach me at …"."""
    match = re.search(
        r"\b(?:reach|contact|write|mail|email)(?: to)? me (?:at|on|under):? ([\w.+-]+@[\w-]+(?:\.[\w-]+)+)",
        plain_words(text),
    )
    return [Said(USER, "email", match.group(1))] if match else []
