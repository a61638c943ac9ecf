"""Settings: what is read, what is refused and in which words, and that nothing secret is ever shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams.errors import Misconfigured
from streams.models import DEFAULT_MODEL, ModelSpec, key_of, load_models, parse_models
from streams.settings import TABLE, Settings, markdown

SECRET = "0123456789abcdef0123456789abcdef"
EVERYTHING = {
    "HEADSTART_KAFKA": "one:9092, two:9092",
    "HEADSTART_KAFKA_USER": "turns",
    "HEADSTART_KAFKA_PASSWORD": "password-at-the-broker",
    "HEADSTART_KAFKA_MECHANISM": "PLAIN",
    "HEADSTART_KAFKA_TLS": "true",
    "HEADSTART_KAFKA_CA": __file__,
    "HEADSTART_KAFKA_HOME": "/opt/kafka",
    "HEADSTART_PARTITIONS": "64",
    "HEADSTART_REPLICATION": "3",
    "HEADSTART_FETCH_MAX_WAIT_MS": "5",
    "HEADSTART_SESSION_TIMEOUT_MS": "6000",
    "HEADSTART_IDEMPOTENT": "false",
    "HEADSTART_POSTGRES": "postgresql://me:hunter22@db/x",
    "HEADSTART_AGENTS": "~/agents",
    "HEADSTART_MODEL_URL": "http://model:8000/v1/",
    "HEADSTART_MODEL": "tiny",
    "HEADSTART_MODEL_KEY": "key-of-model",
    "HEADSTART_EMBEDDINGS_URL": "https://e/v1",
    "HEADSTART_EMBEDDINGS_MODEL": "mini",
    "HEADSTART_EMBEDDINGS_KEY": "key-of-embeddings",
    "HEADSTART_DATA": "~/data",
    "HEADSTART_CACHE": "/cache",
    "HEADSTART_HOST": "0.0.0.0",
    "HEADSTART_PORT": "0",
    "HEADSTART_ORIGINS": "https://a.example, http://localhost:3000/",
    "HEADSTART_SKILL_SECRETS": __file__,
    "HEADSTART_ALLOW_PRIVATE_SKILL_HOSTS": "yes",
    "HEADSTART_SIGNING_KEY": SECRET,
    "HEADSTART_SERVICE_QUOTA": "60",
    "HEADSTART_LOG_LEVEL": "DEBUG",
    "HEADSTART_DEV": "1",
    "HEADSTART_URL": "https://gateway.example",
    "HEADSTART_KEY": "key-of-client",
    "HEADSTART_DEMO_HOST": "127.0.0.2",
    "HEADSTART_DEMO_PORT": "9000",
    "HEADSTART_DEMO_URL": "http://skills:9000",
    "HEADSTART_DEMO_DELAY_MS": "50",
    "HOME": "/home/me",
}


def test_defaults_need_nothing() -> None:
    settings = Settings.from_env({"HOME": "/home/me", "PATH": "/bin"})
    assert (settings.kafka, settings.postgres, settings.model_url) == (None, None, None)
    assert (settings.partitions, settings.fetch_max_wait_ms, settings.idempotent) == (32, 500, True)
    assert settings.data == Path("/home/me/.local/share/headstart")
    assert settings.origins == ()
    assert not settings.dev
    assert settings.given == frozenset()


def test_every_variable_is_read() -> None:
    settings = Settings.from_env(EVERYTHING)
    assert settings.kafka == "one:9092,two:9092"
    assert settings.model_url == "http://model:8000/v1"
    assert settings.origins == ("https://a.example", "http://localhost:3000")
    assert settings.data == Path("/home/me/data")
    assert settings.allow_private_skill_hosts
    assert settings.dev
    assert settings.log_level == "debug"
    assert settings.given == TABLE.keys() - {"models"}


def test_another_process_reads_the_same() -> None:
    settings = Settings.from_env(EVERYTHING)
    assert Settings.from_env(settings.environment()) == settings


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert Settings.from_env({"HEADSTART_KAFKA": "", "HEADSTART_PORT": ""}) == Settings.from_env({})


def test_kafka_home_may_be_named_without_the_prefix() -> None:
    assert Settings.from_env({"KAFKA_HOME": "/a"}).kafka_home == Path("/a")
    assert Settings.from_env({"KAFKA_HOME": "/a", "HEADSTART_KAFKA_HOME": "/b"}).kafka_home == Path("/b")


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("HEADSTART_KAFKA", "broker", "host:port"),
        ("HEADSTART_KAFKA", "broker:0", "host:port"),
        ("HEADSTART_PARTITIONS", "0", "from 1 to 4096"),
        ("HEADSTART_PORT", "80.5", "from 0 to 65535"),
        ("HEADSTART_IDEMPOTENT", "maybe", "true or false"),
        ("HEADSTART_POSTGRES", "mysql://db/x", "postgresql://"),
        ("HEADSTART_MODEL_URL", "ftp://x", "http:// or https://"),
        ("HEADSTART_MODELS", "/nowhere/models.toml", "a file that exists"),
        ("HEADSTART_ORIGINS", "https://a.example/path", "origins such as"),
        ("HEADSTART_LOG_LEVEL", "loud", "debug or info"),
        ("HEADSTART_SIGNING_KEY", "short", "at least 32 characters"),
    ],
)
def test_an_error_names_the_variable_and_what_was_expected(name: str, raw: str, expected: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Settings.from_env({name: raw})
    assert name in str(caught.value)
    assert expected in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(Misconfigured) as caught:
        Settings.from_env({"HEADSTART_PORT": "x", "HEADSTART_DEV": "x", "HEADSTART_MODLE": "x"})
    assert caught.value.facts["variables"] == 3


def test_a_misspelt_variable_is_refused_with_the_near_one() -> None:
    with pytest.raises(Misconfigured, match="HEADSTART_MODLE_URL is not a setting, did you mean HEADSTART_MODEL_URL"):
        Settings.from_env({"HEADSTART_MODLE_URL": "http://x"})


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"HEADSTART_MODEL_URL": "http://x"}, "without HEADSTART_MODEL,"),
        ({"HEADSTART_EMBEDDINGS_URL": "http://x"}, "without HEADSTART_EMBEDDINGS_MODEL"),
        ({"HEADSTART_MODELS": __file__, "HEADSTART_MODEL": "x"}, "must not be set"),
    ],
)
def test_variables_that_contradict_each_other(environ: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        Settings.from_env(environ)


@pytest.mark.parametrize(
    ("name", "raw", "hidden"),
    [
        ("HEADSTART_POSTGRES", "mysql://me:hunter22@db/x", "hunter22"),
        ("HEADSTART_POSTGRES", "host=db password=hunter22", "hunter22"),
        ("HEADSTART_POSTGRES", "mysql://db/x?password=hunter22", "hunter22"),
        ("HEADSTART_POSTGRES", "mysql://[db/hunter22", "hunter22"),
        ("HEADSTART_SIGNING_KEY", "hunter22", "hunter22"),
    ],
)
def test_an_error_never_shows_a_secret(name: str, raw: str, hidden: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Settings.from_env({name: raw})
    assert hidden not in str(caught.value)


def test_a_repr_never_shows_a_secret() -> None:
    shown = repr(Settings.from_env(EVERYTHING))
    for secret in ("hunter22", SECRET, "key-of-model", "key-of-embeddings", "key-of-client"):
        assert secret not in shown
    assert "http://model:8000/v1" in shown


def test_a_broker_started_here_brings_its_needs() -> None:
    settings = Settings.from_env({}).on_broker("127.0.0.1:1", fetch_max_wait_ms=5, idempotent=False)
    assert (settings.kafka, settings.fetch_max_wait_ms, settings.idempotent) == ("127.0.0.1:1", 5, False)
    assert settings.replication == 1
    assert settings.environment()["HEADSTART_FETCH_MAX_WAIT_MS"] == "5"


def test_a_variable_outweighs_the_needs_of_the_broker() -> None:
    settings = Settings.from_env({"HEADSTART_FETCH_MAX_WAIT_MS": "9"})
    assert settings.on_broker("127.0.0.1:1", fetch_max_wait_ms=5, idempotent=False).fetch_max_wait_ms == 9


def test_require_names_what_is_missing() -> None:
    settings = Settings.from_env({"HEADSTART_KAFKA": "a:1"})
    settings.require("kafka")
    with pytest.raises(Misconfigured, match=r"HEADSTART_POSTGRES .*HEADSTART_SIGNING_KEY"):
        settings.require("kafka", "postgres", "signing_key")


def test_the_table_names_every_variable_once() -> None:
    table = markdown()
    for row in TABLE.values():
        assert table.count(f"| `{row.name}`") == 1
    assert len(table.splitlines()) == len(TABLE) + 2


def test_every_setting_is_read_by_some_process() -> None:
    """A variable that changes nothing is a promise that nobody keeps."""
    root = Path(__file__).parents[2]
    files = [
        path for top in ("streams", "memory", "workers", "gateway", "headstart") for path in (root / top).rglob("*.py")
    ]
    text = "".join(path.read_text() for path in files if path.name != "settings.py")
    unread = {name for name in TABLE if not re.search(rf"settings\)?\.{name}\b", text)}
    assert unread == set()


def test_the_readme_holds_the_table() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert markdown() in readme, "run `python -m streams.settings --markdown` and put its table into README.md"


MODELS = """
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


def test_models_come_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(MODELS)
    models = load_models(Settings.from_env({"HEADSTART_MODELS": str(path)}))
    assert models[DEFAULT_MODEL] == ModelSpec(engine="vllm")
    assert models["large"].context_tokens == 128_000
    assert models["large"].cost_usd(1_000_000, 2_000_000) == pytest.approx(3.5)
    assert key_of(models["large"], {"LARGE_MODEL_KEY": "k"}) == "k"
    with pytest.raises(Misconfigured, match="LARGE_MODEL_KEY"):
        key_of(models["large"], {})


def test_without_a_file_there_is_one_model() -> None:
    assert load_models(Settings.from_env({})) == {DEFAULT_MODEL: ModelSpec(engine="vllm")}
    hosted = load_models(Settings.from_env({"HEADSTART_MODEL_URL": "http://x/v1", "HEADSTART_MODEL": "m"}))
    assert hosted[DEFAULT_MODEL].engine == "openai"
    assert key_of(hosted[DEFAULT_MODEL], {}) is None
    assert key_of(hosted[DEFAULT_MODEL], {"HEADSTART_MODEL_KEY": "k"}) == "k"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = 3", "Expected `object`"),
        ("[models.default", "HEADSTART_MODELS"),
        ('[models.default]\nengine = "llama"', "engine"),
        ('[models.default]\nengine = "vllm"\nurls = "x"', "urls"),
        ('[models.default]\nengine = "openai"', "needs `url` and `model`"),
        ('[models.other]\nengine = "vllm"', r"no \[models.default\]"),
    ],
)
def test_a_wrong_table_of_models_is_refused(text: str, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        parse_models(text)
