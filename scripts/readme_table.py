"""Puts the table of settings into README.md, in place of the one that stands there: `make format` runs it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from streams.settings import markdown  # noqa: E402  (the line above is how a script finds the packages)

readme = ROOT / "README.md"
text, found = re.subn(
    r"^\| variable \| value \|.*?\n(?=[^|]|\Z)", lambda _: markdown(), readme.read_text(), count=1, flags=re.S | re.M
)
if found != 1:
    sys.exit("README.md holds no table that begins with `| variable | value |`")
readme.write_text(text)
