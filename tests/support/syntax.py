"""Source text as a tree."""

from __future__ import annotations

import ast

TRIES = 5


def parsed(text: str) -> ast.Module:
    """`ast.parse`. Python 3.11 counts the depth of all its threads' trees together (gh-106905), so that one which is
    made beside others may be told that it is wrong; then it is made again."""
    for _ in range(TRIES):
        try:
            return ast.parse(text)
        except SystemError as error:
            if "recursion depth mismatch" not in str(error):
                raise
    return ast.parse(text)
