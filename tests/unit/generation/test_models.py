"""From the table of models to engines; nothing is started and nothing is loaded here."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.errors import HeadstartError, Misconfigured
from streams.settings import Settings
from workers.generation.engine import EngineMisconfigured, EngineRequest, Message
from workers.generation.models import Models, load_models
from workers.generation.openai_engine import OpenAIEngine
from workers.generation.scripted_engine import ScriptedEngine
from workers.generation.vllm_engine import VllmEngine


def table(folder: Path, text: str) -> Settings:
    file = folder / "models.toml"
    file.write_text(text)
    return Settings.from_env({"HEADSTART_MODELS": str(file)})


@pytest.mark.asyncio
async def test_each_row_has_its_engine(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text('[{"say": "It is so."}]')
    settings = table(
        tmp_path,
        f"""
        [models.default]
        engine = "scripted"
        model = "{rules}"
        requests_at_once = 3

        [models.large]
        engine = "openai"
        url = "https://models.example.org/v1"
        model = "large-instruct"
        key_variable = "LARGE_MODEL_KEY"
        requests_at_once = 4

        [models.own]
        engine = "vllm"
        model = "/weights"
        requests_at_once = 5
        """,
    )
    models = await load_models(settings, {"LARGE_MODEL_KEY": "k"})
    assert isinstance(models.engines["default"], ScriptedEngine)
    assert isinstance(models.engines["large"], OpenAIEngine)
    assert isinstance(models.engines["own"], VllmEngine)
    assert (models.engines["default"].model, models.engines["own"].model) == ("default", "own")
    assert models.capacity == 12
    scripted = Models({"default": models.engines["default"]}, {"default": models.specs["default"]})
    await scripted.start()
    request = EngineRequest(request_id="r", model="default", messages=[Message("user", "Is it?")], max_tokens=50)
    kinds = [type(event).__name__ async for event in scripted.engines["default"].generate(request)]
    await scripted.close()
    assert (kinds[0], kinds[-1]) == ("EngineStarted", "EngineFinished")


@pytest.mark.asyncio
async def test_a_server_is_the_default_model_when_a_url_is_set() -> None:
    settings = Settings.from_env({"HEADSTART_MODEL_URL": "http://127.0.0.1:1/v1", "HEADSTART_MODEL": "m"})
    models = await load_models(settings, {})
    assert list(models.engines) == ["default"]
    assert models.engines["default"].model == "m"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[models.default]\nengine = "scripted"', Misconfigured),
        ('[models.default]\nengine = "scripted"\nmodel = "/nowhere/rules.json"', Misconfigured),
        ('[models.default]\nengine = "scripted"\nmodel = "{bad}"', EngineMisconfigured),
        ('[models.default]\nengine = "openai"\nurl = "http://x/v1"\nmodel = "m"\nkey_variable = "NO"', Misconfigured),
    ],
    ids=["no rules", "rules not there", "rules not JSON", "no key"],
)  # fmt: skip
@pytest.mark.asyncio
async def test_a_row_that_cannot_work_is_refused_before_anything_starts(
    tmp_path: Path, text: str, error: type[HeadstartError]
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("no rules")
    settings = table(tmp_path, text.replace("{bad}", str(bad)))
    with pytest.raises(error):
        await load_models(settings, {})
