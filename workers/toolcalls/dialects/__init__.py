"""The dialects: one file per family of models."""

from __future__ import annotations

from workers.toolcalls.dialects import (
    deepseek,
    gemma,
    glm,
    gpt_oss,
    hermes,
    json_list,
    kimi,
    llama,
    mistral,
    openai_deltas,
    qwen3_xml,
    yaml_plan,
)
from workers.toolcalls.dialects.base import Dialect

__all__ = ["Dialect", "for_model", "get", "names"]

# In the order in which they are asked about a model's name: the special before the general.
_DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        gpt_oss.DIALECT,
        openai_deltas.DIALECT,
        deepseek.DIALECT,
        kimi.K3,
        kimi.K2,
        glm.DIALECT,
        mistral.DIALECT,
        gemma.DIALECT,
        qwen3_xml.DIALECT,
        hermes.DIALECT,
        llama.DIALECT,
        json_list.DIALECT,
        yaml_plan.DIALECT,
    )
}


def names() -> tuple[str, ...]:
    """All dialects."""
    return tuple(_DIALECTS)


def get(name: str) -> Dialect:
    """The dialect of that name. Raises KeyError with the known names."""
    try:
        return _DIALECTS[name]
    except KeyError:
        raise KeyError(f"no dialect {name!r}; there are {', '.join(_DIALECTS)}") from None


def for_model(model_name: str) -> Dialect:
    """The dialect that a model of this name most likely writes; where nothing is known, the plain JSON list."""
    for dialect in _DIALECTS.values():
        if dialect.speaks(model_name):
            return dialect
    return _DIALECTS["json_list"]
