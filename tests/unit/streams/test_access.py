"""The broker's access rules: what the topology says and nothing else; how a process shows who it is."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from headstart.archive_commands import GROUP as ARCHIVE
from headstart.replay.shadow import GROUP as SHADOW
from headstart.service import broker_of
from streams.access import Rule, markdown, rules
from streams.acls import main, users_of
from streams.broker_access import OPEN, BrokerAccess
from streams.errors import InvalidInput, Misconfigured
from streams.settings import Settings
from streams.topology import EVENTS, GROUPS, TOPICS, TURNS, USERS
from workers.generation.worker import GROUP as GENERATION
from workers.planning.owner import GROUP as OWNERS
from workers.remembering.worker import GROUP as MEMORY

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "security.md"


def may(user: str, operation: str, topic: str) -> bool:
    return any(rule[:4] == (user, operation, "topic", topic) for rule in rules())


def test_rules_are_the_rows_of_the_topology() -> None:
    for topic in TOPICS:
        for role, user in USERS.items():
            assert may(user, "Write", topic.name) is (role in topic.producers)
            assert may(user, "Read", topic.name) is (role in topic.consumers)
            assert may(user, "Describe", topic.name)
    assert {role for topic in TOPICS for role in (*topic.producers, *topic.consumers)} == set(USERS)


def test_only_workers_write_the_log_and_no_service_reads_commands() -> None:
    assert {user for user in USERS.values() if may(user, "Write", EVENTS.name)} == {"turns", "generation"}
    assert not may("service", "Read", TURNS.name)
    assert not may("gateway", "Write", "skills")


def test_groups_are_those_that_the_stages_join() -> None:
    assert GROUPS["turns worker"] == (OWNERS,)
    assert GROUPS["generation worker"] == (GENERATION,)
    assert GROUPS["memory worker"] == (MEMORY,)
    assert GROUPS["operator"] == (ARCHIVE, f"{SHADOW}-")
    assert Rule("service", "Read", "group", "service.", prefix=True) in rules()
    assert Rule("turns", "Read", "group", "turns") in rules()


def test_a_namespace_and_users_of_ones_own() -> None:
    found = rules("trial", {"service": ("orders", "billing")})
    assert all(rule.name.startswith("trial.") for rule in found)
    assert {rule.user for rule in found} == set(USERS.values()) - {"service"} | {"orders", "billing"}
    assert Rule("orders", "Write", "topic", "trial.turns") in found
    assert Rule("billing", "Read", "group", "trial.service.", prefix=True) in found


def test_the_command_prints_lines_for_kafkas_own_tool(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["print", "--user", "service=orders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == len(rules())
    assert all(line.startswith("kafka-acls.sh --bootstrap-server $HEADSTART_KAFKA --add --allow-") for line in lines)
    assert any(line.endswith("User:orders --operation Write --topic turns") for line in lines)
    assert any(line.endswith("--group service. --resource-pattern-type prefixed") for line in lines)


def test_a_wrong_user_is_refused_with_the_roles(capsys: pytest.CaptureFixture[str]) -> None:
    assert users_of(["turns=t1", "turns worker=t2"]) == {"turns worker": ("t1", "t2")}
    for given in ("nobody=x", "turns", "turns="):
        with pytest.raises(InvalidInput, match="ROLE=NAME"):
            users_of([given])
    assert main(["print", "--user", "nobody=x"]) == 1
    assert "generation" in capsys.readouterr().err


def test_apply_needs_a_broker(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADSTART_KAFKA", raising=False)
    assert main(["apply"]) == 1
    assert "HEADSTART_KAFKA" in capsys.readouterr().err


def test_the_page_has_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert markdown() in PAGE.read_text(), "python -m streams.acls table"
    assert main(["table"]) == 0
    assert capsys.readouterr().out == markdown()


def test_access_as_the_clients_want_it() -> None:
    assert OPEN.options() == {"security_protocol": "PLAINTEXT"}
    settings = Settings.from_env({"HEADSTART_KAFKA_USER": "turns", "HEADSTART_KAFKA_PASSWORD": "s3cret"})
    access = BrokerAccess.from_settings(settings)
    assert access.options() == {
        "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "turns", "sasl_plain_password": "s3cret",
    }  # fmt: skip
    assert "s3cret" not in repr(access) + repr(settings)
    over_tls = BrokerAccess.from_settings(Settings.from_env({"HEADSTART_KAFKA_TLS": "true"}))
    assert over_tls.protocol == "SSL"
    assert isinstance(over_tls.options()["ssl_context"], ssl.SSLContext)
    assert BrokerAccess("turns", "x", "PLAIN", over_tls.tls).protocol == "SASL_SSL"


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    for given, said in (
        ({"HEADSTART_KAFKA_USER": "turns"}, "KAFKA_PASSWORD"),
        ({"HEADSTART_KAFKA_PASSWORD": "x"}, "KAFKA_USER"),
        ({"HEADSTART_KAFKA_CA": str(file)}, "KAFKA_TLS"),
    ):
        with pytest.raises(Misconfigured, match=said):
            Settings.from_env(given)
    with pytest.raises(Misconfigured, match="no certificates"):
        BrokerAccess.from_settings(Settings.from_env({"HEADSTART_KAFKA_TLS": "true", "HEADSTART_KAFKA_CA": str(file)}))


@pytest.mark.parametrize("mechanism", ["plain", "scram-sha-256", "scram-sha-512"])
def test_the_service_kit_shows_the_same(mechanism: str) -> None:
    told = {"HEADSTART_KAFKA": "a:1", "HEADSTART_KAFKA_USER": "orders", "HEADSTART_KAFKA_PASSWORD": "x"}
    broker = broker_of(Settings.from_env({**told, "HEADSTART_KAFKA_MECHANISM": mechanism}))
    security = broker.config.connection_config if hasattr(broker.config, "connection_config") else broker.config
    assert "orders" in repr(vars(security))
