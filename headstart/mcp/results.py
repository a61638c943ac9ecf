"""What an MCP tool gave, as a skill's result. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

Json = Mapping[str, Any]


def result_of(content: Sequence[Json], structured: Any = None, failed: bool = False) -> Any:
    """The structured content where there is some. Else the texts, joined: as JSON where they are an object or an array,
    as `{"text": …}` where they are not. A tool that failed gives `{"error": …}`. What is no text is named in
    `omitted`, with its media type. content: the blocks of a `tools/call` result, by the protocol's names."""
    texts = [text for block in content if (text := _text(block))]
    text = "\n".join(texts)
    if failed:
        return {"error": text or "the tool failed"}
    if structured is not None:
        return structured
    omitted = [f"{block.get('type')} ({_media_type(block)})" for block in content if not _text(block)]
    if not omitted and text.lstrip()[:1] in ("{", "["):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass
    return {"text": text} | ({"omitted": omitted} if omitted else {})


def _text(block: Json) -> str:
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text", ""))
    if kind == "resource":
        return str((block.get("resource") or {}).get("text", ""))
    if kind == "resource_link":
        return f"{block.get('name', '')} <{block.get('uri', '')}>"
    return ""


def _media_type(block: Json) -> str:
    return str(block.get("mimeType") or (block.get("resource") or {}).get("mimeType") or "of no named kind")
