"""Writes the table of settings into README.md, from the code that reads them. `--check` only says whether it is so."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from streams.settings import markdown  # noqa: E402

BLOCK = re.compile(r"(<!-- settings:[^\n]*-->\n).*?(<!-- /settings -->)", re.DOTALL)


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text()
    wanted = BLOCK.sub(lambda match: match.group(1) + markdown() + match.group(2), text)
    if "--check" in sys.argv:
        return 0 if wanted == text else 1
    readme.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
