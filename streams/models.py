"""The named models of an installation: which engine serves each, where, with what limits and at what cost.

An agent names one model per step, so that a small one may route and plan while a big one answers. The table is a TOML
file (HEADSTART_MODELS) with one `[models.NAME]` per model; without a file there is one, `default`, from
HEADSTART_MODEL_URL and HEADSTART_MODEL, or vLLM in the generation worker with the small model that ships.

    [models.default]
    engine = "vllm"

    [models.large]
    engine = "openai"
    url = "https://models.example.org/v1"
    model = "large-instruct"
    key_variable = "LARGE_MODEL_KEY"
    context_tokens = 128000
    input_usd_per_million_tokens = 0.5
    output_usd_per_million_tokens = 1.5
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from streams.errors import Misconfigured
from streams.settings import Settings

DEFAULT_MODEL: Final = "default"


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the table.

    engine: `vllm` in the generation worker, `openai` for any server that speaks that protocol, `scripted` for recorded
        answers. model: the name at `url`, or a folder of weights for vLLM; None is the small model that ships.
    key_variable: name of the environment variable that holds the API key, so that no key stands in a file.
    dialect: how the model writes calls (workers/toolcalls/dialects); `structured`: its plans are forced to a JSON
        schema of the discovered skills, so that `json_list` is what it writes whatever it was trained on.
    context_tokens, max_output_tokens: None leaves the limit to the engine.
    requests_at_once: how many of its generations one worker runs side by side.
    tokens_per_second: the pace of a `scripted` model, whose `model` is its file of rules; None is as fast as it goes.
    end_ms: how long it is silent after its last token, as in the step in which a model says that it has ended.
    *_usd_per_million_tokens: what a token costs; 0 for one's own machine.
    """

    engine: Literal["vllm", "openai", "scripted"]
    model: str | None = None
    url: str | None = None
    key_variable: str | None = None
    dialect: str = "json_list"
    structured: bool = True
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    requests_at_once: int = 256
    tokens_per_second: float | None = None
    end_ms: float = 0.0
    input_usd_per_million_tokens: float = 0.0
    output_usd_per_million_tokens: float = 0.0

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float:
        """What a call cost; `output_tokens` counts hidden ones too, since they are paid for."""
        per_million = (
            input_tokens * self.input_usd_per_million_tokens + output_tokens * self.output_usd_per_million_tokens
        )
        return per_million / 1_000_000


class _File(msgspec.Struct, forbid_unknown_fields=True):
    models: dict[str, ModelSpec]


def parse_models(text: str) -> dict[str, ModelSpec]:
    """The table in the text of a TOML file. Raises Misconfigured, naming the row and what was expected of it."""
    try:
        table = msgspec.convert(tomllib.loads(text), _File).models
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Misconfigured(f"HEADSTART_MODELS: {error}", hint="see streams/models.py for an example") from error
    for name, spec in table.items():
        if spec.engine == "openai" and not (spec.url and spec.model):
            raise Misconfigured(f"HEADSTART_MODELS: models.{name} has engine `openai` and so needs `url` and `model`")
    if DEFAULT_MODEL not in table:
        raise Misconfigured(f"HEADSTART_MODELS: there is no [models.{DEFAULT_MODEL}], which agents use unless told")
    return table


def load_models(settings: Settings) -> dict[str, ModelSpec]:
    """The table of this installation. Reads the file that HEADSTART_MODELS names, where it is set."""
    if settings.models is not None:
        return parse_models(settings.models.read_text())
    if settings.model_url is not None:
        spec = ModelSpec(
            engine="openai", url=settings.model_url, model=settings.model, key_variable="HEADSTART_MODEL_KEY"
        )
    else:
        spec = ModelSpec(engine="vllm", model=settings.model)
    return {DEFAULT_MODEL: spec}


def key_of(spec: ModelSpec, environ: Mapping[str, str]) -> str | None:
    """The API key of a model, or None where it needs none. Raises Misconfigured if its variable is named but empty."""
    if spec.key_variable is None:
        return None
    key = environ.get(spec.key_variable) or None
    if key is None and spec.key_variable != "HEADSTART_MODEL_KEY":
        raise Misconfigured(f"{spec.key_variable} is not set; a model in HEADSTART_MODELS names it as its key")
    return key
