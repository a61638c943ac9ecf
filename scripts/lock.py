"""Writes constraints.txt: name==version of every package installed beside this Python.

Names and versions only, so that the same file serves every index, platform and supported Python. A local part of a
version (`+cpu`) is left off, since which build is taken is scripts/setup.py's to decide.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "constraints.txt"
HEADER = "# Exact versions that a set-up installs, written by `make lock` from one that passed `make check`.\n"
# Needed on other machines than the one that writes the file: uv where pip offers no CPU build of torch
# (scripts/setup.py), six by vLLM from Python 3.12 on.
ELSEWHERE = {"six": "1.17.0", "uv": "0.13.9"}


def main() -> None:
    versions = {
        re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(): distribution.version.partition("+")[0]
        for distribution in importlib.metadata.distributions()
    }
    versions = {**ELSEWHERE, **versions}
    versions.pop("headstart", None)
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    TARGET.write_text(HEADER + "".join(lines))
    print(f"constraints.txt: {len(lines)} packages")


if __name__ == "__main__":
    main()
