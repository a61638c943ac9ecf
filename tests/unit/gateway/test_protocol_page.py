"""docs/protocol.md names every frame that the gateway takes and sends, and every error code it makes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
SOURCE = {path.name: path.read_text() for path in (ROOT / "gateway").glob("*.py")}
FRAME = re.compile(r'"((?:headstart|session|response)\.[a-z_.]+[a-z])"')


def test_every_frame_is_on_the_page() -> None:
    page = PAGE
    for prefix, pairs in (("response.", re.findall(r"`(response\.[a-z_.]+)\.(\w+)((?:/\.\w+)+)`", PAGE)),):
        for stem, first, others in pairs:
            page += "".join(f" {stem}.{word}" for word in (first, *others.replace("/.", " ").split()))
            assert stem.startswith(prefix)
    frames = {frame for text in SOURCE.values() for frame in FRAME.findall(text)} - {"headstart.key"}
    assert len(frames) > 40
    assert [frame for frame in sorted(frames) if frame not in page] == []


def test_every_error_code_is_on_the_page() -> None:
    codes = {code for text in SOURCE.values() for code in re.findall(r'code="([a-z_]+)"', text)}
    internal = {"no_such_partition", "no_such_path"}
    assert [code for code in sorted(codes - internal) if f"`{code}`" not in PAGE] == []
