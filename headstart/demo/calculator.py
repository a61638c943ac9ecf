"""Arithmetic from text, by its own grammar and nothing else:

    sum     = product (("+" | "-") product)*
    product = signed (("*" | "/" | "%") signed)*
    signed  = ("+" | "-") signed | power
    power   = atom (("^" | "**") signed)?            right to left
    atom    = number | "pi" | "e" | name "(" sum ("," sum)* ")" | "(" sum ")"

Numbers are decimal; `×`, `÷`, a percent sign that no number follows (15% = 0.15) and `of` for `*` are understood, and
commas between digits of a number are not. Bounded: 200 characters, 50 nested, results below 10^300.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

from streams.errors import InvalidInput

MAX_CHARACTERS: Final = 200
MAX_DEPTH: Final = 50
_TOKEN: Final = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|([a-z]+)|(\*\*|[-+*/%^(),]))", re.ASCII)
_CONSTANTS: Final = {"pi": math.pi, "e": math.e}
_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "sqrt": math.sqrt, "abs": abs, "min": min, "max": max, "ln": math.log, "log": math.log10, "sin": math.sin,
    "cos": math.cos, "tan": math.tan, "floor": math.floor, "ceil": math.ceil, "round": lambda x, n=0: round(x, int(n)),
}  # fmt: skip


def calculate(expression: str) -> float:
    """The value of an expression. Raises InvalidInput (`invalid_expression`) saying at which character it fails."""
    if len(expression) > MAX_CHARACTERS:
        raise InvalidInput(f"an expression has at most {MAX_CHARACTERS} characters", code="invalid_expression")
    text = (
        expression.casefold().replace("×", "*").replace("÷", "/").replace("−", "-").replace(" of ", " * ").rstrip(" =?")
    )
    parser = _Parser(text)
    try:
        value = float(parser.sum(0))
    except (ArithmeticError, ValueError, TypeError) as error:
        raise InvalidInput("the expression has no value", code="invalid_expression") from error
    parser.end()
    if not math.isfinite(value) or abs(value) > 1e300:
        raise InvalidInput("the value is too large", code="invalid_expression")
    return value


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[int, str]] = []
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None:
                raise _wrong(position)
            self.tokens.append((match.start(match.lastindex or 0), match[match.lastindex or 0]))
            position = match.end()
        self.length = len(text)
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """The next token when it is one of these, else ""."""
        token = self.peek()
        if token and token in wanted:
            self.at += 1
            return token
        return ""

    def need(self, wanted: str) -> None:
        if not self.take(wanted):
            raise self.wrong()

    def end(self) -> None:
        if self.peek():
            raise self.wrong()

    def wrong(self) -> InvalidInput:
        return _wrong(self.tokens[self.at][0] if self.at < len(self.tokens) else self.length)

    def sum(self, depth: int) -> float:
        if depth > MAX_DEPTH:
            raise self.wrong()
        value = self.product(depth)
        while sign := self.take("+", "-"):
            right = self.product(depth)
            value = value + right if sign == "+" else value - right
        return value

    def product(self, depth: int) -> float:
        value = self.signed(depth)
        while sign := self.take("*", "/", "%"):
            right = self.signed(depth)
            value = value * right if sign == "*" else value / right if sign == "/" else value % right
        return value

    def signed(self, depth: int) -> float:
        if depth > MAX_DEPTH:
            raise self.wrong()
        sign = self.take("+", "-")
        if not sign:
            return self.power(depth)
        value = self.signed(depth + 1)
        return -value if sign == "-" else value

    def power(self, depth: int) -> float:
        base = self.percent(depth)
        if self.take("^", "**"):
            exponent = self.signed(depth + 1)
            return float(math.pow(base, exponent))
        return base

    def percent(self, depth: int) -> float:
        value = self.atom(depth)
        if self.peek() == "%" and self.peek(1) in ("", ")", ",", "+", "-", "*", "/"):
            self.take("%")
            return value / 100
        return value

    def atom(self, depth: int) -> float:
        if self.take("("):
            value = self.sum(depth + 1)
            self.need(")")
            return value
        token = self.peek()
        if token[:1].isdigit() or token[:1] == ".":
            self.at += 1
            return float(token)
        if token in _CONSTANTS:
            self.at += 1
            return _CONSTANTS[token]
        if token not in _FUNCTIONS:
            raise self.wrong()
        self.at += 1
        self.need("(")
        values = [self.sum(depth + 1)]
        while self.take(","):
            values.append(self.sum(depth + 1))
        self.need(")")
        return float(_FUNCTIONS[token](*values))


def _wrong(position: int) -> InvalidInput:
    return InvalidInput(f"the expression is not one at character {position}", code="invalid_expression")
