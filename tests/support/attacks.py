"""Tries to get in, counted by door. What counts as let in is judged by what came of a try, not by a status alone."""

from __future__ import annotations

import base64
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from streams import ids

SECRET = "the vault opens with 7-19-4"  # said in every conversation of the victim; nobody else may ever see it
PAGE = Path(__file__).parents[2] / "docs" / "security.md"
_ROW = re.compile(r"^\| `([a-z ]+)` \| .* \| ([\d,]+) \|$", re.MULTILINE)


class Tally:
    """Tries and successes by door."""

    def __init__(self) -> None:
        self.tries: Counter[str] = Counter()
        self.let_in: list[str] = []

    def note(self, door: str, what: str, got_in: bool) -> None:
        """One try. what: enough to find it again when it got in."""
        self.tries[door] += 1
        if got_in:
            self.let_in.append(f"{door}: {what}")

    def conclude(self, *doors: str) -> None:
        """Prints the figures and holds them to docs/security.md: none let in, and as many tries as it says."""
        promised = {door: int(count.replace(",", "")) for door, count in _ROW.findall(PAGE.read_text())}
        print()
        for door in doors:
            got_in = sum(1 for what in self.let_in if what.startswith(f"{door}: "))
            print(f"{door:<24} tries {self.tries[door]:>6,}   let in {got_in}")
        assert not self.let_in, "\n".join(self.let_in[:20])
        assert set(self.tries) == set(doors)
        for door in doors:
            assert self.tries[door] >= promised[door], f"docs/security.md promises {promised[door]} tries at {door!r}"


def wrong_keys(right: str, rng: random.Random, count: int) -> Iterator[str]:
    """Keys that are not the right one: near misses, forms of it, random ones, and texts that break careless readers."""
    yield from (right[:-1], right + "A", right.upper(), right.swapcase(), right[3:], right[::-1], right.split("_")[1])
    yield from ("'; DROP TABLE api_keys; --", "' OR '1'='1", "%", "*", "null", "undefined", "0", "true", "{}", "\x7f")
    yield from ("hs_" + "0" * 12 + "_" + "A" * 43, "Bearer", right[:16] + "A" * 43, "ü" * 20, "x" * 60_000)
    for _ in range(count):
        at = rng.randrange(3, len(right))
        other = rng.choice([char for char in "abcdef0123456789" if char != right[at]])
        yield right[:at] + other + right[at + 1 :]
        yield f"hs_{rng.randbytes(6).hex()}_{base64.urlsafe_b64encode(rng.randbytes(32)).decode().rstrip('=')}"


def forged_ids(right: str, rng: random.Random, count: int) -> Iterator[str]:
    """Ids of the same kind beside the right one: other partitions, times and random bits, and malformed ones."""
    kind, _, body = right.partition("_")
    for _ in range(count):
        at = rng.randrange(len(body))
        yield f"{kind}_{body[:at]}{rng.choice('0123456789abcdef')}{body[at + 1 :]}"
        yield f"{kind}_{body[:4]}{rng.randbytes(16).hex()}"
    yield from (f"{kind}_{'0' * 36}", f"{kind}_{'f' * 36}", body, f"{kind}_{body.upper()}x", f"{kind}_", "", "..", "*")
    yield from (f"{kind}_{body}\x00", f"{kind}_{body} ", f"{kind}_{body}%00", f"{kind}_{body}/../{body}", "' OR 1=1 --")


def forged_cursors(right: str, rng: random.Random, count: int) -> Iterator[str]:
    """Cursors with flipped bits, some with their sum put right, and texts that are none."""
    raw = base64.urlsafe_b64decode(right + "=" * (-len(right) % 4))
    for number in range(count):
        bits = bytearray(raw)
        bits[rng.randrange(len(bits))] ^= 1 << rng.randrange(8)
        if number % 2:
            bits[-1] = zlib.crc32(bits[:-1]) & 0xFF
        yield base64.urlsafe_b64encode(bytes(bits)).decode().rstrip("=")
    yield from (right[:-1], right + "A", right[::-1], "", "start ", "LIVE", "0", "AAAA", "=" * 58, "A" * 58, "A" * 5000)


def path_tricks(conversation: str, response: str) -> Iterator[str]:
    """Paths that a careless router takes for another, or for a file."""
    for climb in ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "....//", "%252e%252e%252f", "..;/", "\\..\\"):
        for prefix in ("/", "/web/", "/web/assets/", "/v1/", "/v1/conversations/", "/v1/responses/"):
            for target in ("etc/passwd", "server.py", "gateway/server.py", "pyproject.toml", ".env"):
                yield prefix + climb * 3 + target
    for climb in ("../", "%2e%2e/", "./", "%2e/", "/", "//", "x/../", "x/%2e%2e/"):
        yield f"/v1/models/{climb}conversations/{conversation}"
        yield f"/web/{climb}v1/conversations/{conversation}/items"
        yield f"/v1/{climb}responses/{response}/input_items"
        yield f"/{climb}v1/responses/{response}?stream=true"
    for end in (
        "/",
        "//",
        ";x",
        ";.css",
        "%20",
        "%00",
        "?",
        "#",
        ".json",
        "/..;/items",
        "%2fitems",
        "/items%3flimit=1",
    ):
        yield f"/v1/conversations/{conversation}{end}"
        yield f"/v1/responses/{response}{end}"
    yield from ("//etc/passwd", "/web//etc/passwd", "/file:///etc/passwd", "/web/index.html%00.png", "/%00", "/%ff%fe")


FILES = (b"root:x:", b"from __future__", b"[build-system]", b"HEADSTART_")  # of the files that the paths ask for


def response_id(number: int, partition: int = 1) -> str:
    """A well-formed response id that nobody has."""
    conversation = ids.conversation_id(partition, 1_763_700_000_000 + number, bytes(10))
    return ids.response_of(ids.turn_id(conversation, 1_763_700_000_000 + number, bytes(10)))
