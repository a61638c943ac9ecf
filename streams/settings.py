"""Every setting of every process: one table of HEADSTART_* variables, read once, checked before anything starts.

The fields of `Settings` are the table: each names its variable, how its text is read, what it is without, and what it
means. `python -m streams.settings --markdown` prints it for the README. A variable that begins with HEADSTART_ and is
not in the table is refused, since a setting that is misspelt and ignored is found last of all.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from streams.errors import Misconfigured
from streams.setting_kinds import (
    Kind,
    choice,
    database_url,
    file_path,
    flag,
    folder,
    host_list,
    integer,
    origin_list,
    secret_text,
    signing_secret,
    text,
    web_url,
)

PREFIX: Final = "HEADSTART_"
TESTS_PREFIX: Final = "HEADSTART_TEST_"  # what the tests are told, which no process reads


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of the table. `also` is a name without the prefix that counts where `name` is not set."""

    name: str
    kind: Kind[Any]
    default: str | None
    meaning: str
    also: str | None = None


def variable(name: str, kind: Kind[Any], default: str | None, meaning: str, also: str | None = None) -> Any:
    """A field of `Settings`, read from the variable HEADSTART_`name`. `default` is text, as a person would set it."""
    row = Variable(PREFIX + name, kind, default, meaning, also)
    return field(metadata={"variable": row}, repr=not kind.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one process was told. Frozen: a change is a new one (`but`). `repr` leaves secrets out.

    given: names of the fields that were set by a variable and not left to their defaults.
    """

    kafka: str | None = variable(
        "KAFKA",
        host_list,
        None,
        "Kafka to use, host:port[,host:port…]; unset: `headstart up` starts one on this machine",
    )
    kafka_user: str | None = variable(
        "KAFKA_USER", text, None, "user of this process at the broker (SASL); unset: the broker asks for none"
    )
    kafka_password: str | None = variable("KAFKA_PASSWORD", secret_text, None, "its password")
    kafka_mechanism: str = variable(
        "KAFKA_MECHANISM",
        choice("plain", "scram-sha-256", "scram-sha-512"),
        "scram-sha-512",
        "how the password is shown to the broker; `plain` only over TLS or a network of one's own",
    )
    kafka_tls: bool = variable("KAFKA_TLS", flag, "false", "speak TLS with the broker")
    kafka_ca: Path | None = variable(
        "KAFKA_CA", file_path, None, "certificates (PEM) that the broker's own must be signed by; unset: the system's"
    )
    kafka_home: Path | None = variable(
        "KAFKA_HOME",
        folder,
        None,
        "an Apache Kafka (a folder with `libs/`) to start instead of the in-memory broker",
        "KAFKA_HOME",
    )
    partitions: int = variable(
        "PARTITIONS",
        integer(1, 4096),
        "32",
        "partitions of `turns`, `calls`, `generations` and `events` when they are created",
    )
    replication: int = variable(
        "REPLICATION", integer(-1, 9), "-1", "replicas of a topic when it is created; -1: the cluster's own default"
    )
    fetch_max_wait_ms: int = variable(
        "FETCH_MAX_WAIT_MS",
        integer(1, 60_000),
        "500",
        "how long the broker may hold a fetch; 5 on the in-memory broker",
    )
    session_timeout_ms: int = variable(
        "SESSION_TIMEOUT_MS",
        integer(1_000, 300_000),
        "10000",
        "how long the broker waits for a worker that went silent before others get its work; Kafka takes 6000 or more",
    )
    idempotent: bool = variable(
        "IDEMPOTENT", flag, "true", "idempotent producers; false on the in-memory broker, which has none"
    )
    postgres: str | None = variable(
        "POSTGRES",
        database_url,
        None,
        "Postgres with pgvector, postgresql://…; unset: `headstart up` starts one on this machine",
    )
    model_url: str | None = variable(
        "MODEL_URL",
        web_url,
        None,
        "an OpenAI-compatible server for the default model; unset: vLLM in the generation worker",
    )
    model: str | None = variable(
        "MODEL", text, None, "the model's name there, or a folder of weights for vLLM; unset: SmolLM2-135M"
    )
    model_key: str | None = variable("MODEL_KEY", secret_text, None, "API key for HEADSTART_MODEL_URL")
    agents: Path | None = variable(
        "AGENTS", folder, None, "a folder with further agents, one folder each, besides those that ship"
    )
    models: Path | None = variable(
        "MODELS",
        file_path,
        None,
        "a TOML file of named models (engine, URL, limits, cost per token); unset: one, `default`",
    )
    embeddings_url: str | None = variable(
        "EMBEDDINGS_URL",
        web_url,
        None,
        "an OpenAI-compatible server for embeddings; unset: all-MiniLM-L6-v2 in the process",
    )
    embeddings_model: str | None = variable("EMBEDDINGS_MODEL", text, None, "the embedding model's name there")
    embeddings_key: str | None = variable("EMBEDDINGS_KEY", secret_text, None, "API key for HEADSTART_EMBEDDINGS_URL")
    data: Path = variable(
        "DATA", folder, "~/.local/share/headstart", "the folder in which the started parts keep their data"
    )
    cache: Path = variable(
        "CACHE", folder, "~/.cache/headstart", "the folder for what can be made again, such as converted weights"
    )
    host: str = variable("HOST", text, "127.0.0.1", "address on which the gateway listens")
    port: int = variable("PORT", integer(0, 65_535), "8080", "its port; 0: any free one")
    origins: tuple[str, ...] = variable(
        "ORIGINS", origin_list, "", "pages that may open a socket besides the gateway's own, https://…[,https://…]"
    )
    allow_private_skill_hosts: bool = variable(
        "ALLOW_PRIVATE_SKILL_HOSTS", flag, "false", "let skills be called on loopback and private addresses"
    )
    skill_secrets: Path | None = variable(
        "SKILL_SECRETS",
        file_path,
        None,
        "a TOML file of what requests to imported APIs carry, and to which hosts; unset: nothing",
    )
    signing_key: str | None = variable(
        "SIGNING_KEY", signing_secret, None, "signs what services put on the bus; required unless HEADSTART_DEV is true"
    )
    service_quota: int = variable(
        "SERVICE_QUOTA",
        integer(1, 1_000_000),
        "600",
        "turns and facts that are taken from one service key a minute, by all turns workers; a key may have its own",
    )
    log_level: str = variable(
        "LOG_LEVEL", choice("debug", "info", "warning", "error"), "info", "the least important lines that are logged"
    )
    dev: bool = variable(
        "DEV", flag, "false", "development profile: fixed keys, skills on loopback; never where others can reach it"
    )
    demo_host: str = variable("DEMO_HOST", text, "127.0.0.1", "address on which the demo skill service listens")
    demo_port: int = variable("DEMO_PORT", integer(0, 65_535), "8090", "its port; 0: any free one")
    demo_url: str | None = variable(
        "DEMO_URL", web_url, None, "where the turn workers reach it; unset: http:// and the two above"
    )
    demo_delay_ms: int = variable(
        "DEMO_DELAY_MS", integer(0, 600_000), "0", "how long each of its skills waits before it answers"
    )
    url: str = variable(
        "URL", web_url, "http://127.0.0.1:8080", "gateway for `headstart chat`, `keys`, `publish` and the Python client"
    )
    key: str | None = variable("KEY", secret_text, None, "API key that they send")
    given: frozenset[str] = frozenset()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Reads `environ`; one Misconfigured names every variable that is wrong, with what was expected of it."""
        wrong = _unknown(environ)
        values: dict[str, Any] = {}
        given: set[str] = set()
        for name, row in TABLE.items():
            raw = environ.get(row.name) or (environ.get(row.also) if row.also else None) or None
            if raw is not None:
                given.add(name)
            try:
                values[name] = _read(row, raw if raw is not None else row.default, environ)
            except ValueError as expected:
                wrong.append(f"{row.name} is {row.kind.show(raw or '')}, expected {expected}")
        if not wrong:
            settings = cls(**values, given=frozenset(given))
            wrong = settings._contradictions()
            if not wrong:
                return settings
        raise Misconfigured("; ".join(wrong), hint="see the table of settings in README.md", variables=len(wrong))

    def but(self, **changes: Any) -> Self:
        """The same with some fields changed; they count as given."""
        return dataclasses.replace(self, **changes, given=self.given | changes.keys())

    def on_broker(self, bootstrap: str, *, fetch_max_wait_ms: int, idempotent: bool) -> Self:
        """For a broker that was just started here: its address and needs, except what a variable says otherwise."""
        needs: dict[str, Any] = {"fetch_max_wait_ms": fetch_max_wait_ms, "idempotent": idempotent, "replication": 1}
        return self.but(kafka=bootstrap, **{name: value for name, value in needs.items() if name not in self.given})

    def environment(self) -> dict[str, str]:
        """The variables that make another process read these same settings: everything given."""
        return {TABLE[name].name: TABLE[name].kind.write(getattr(self, name)) for name in sorted(self.given)}

    def require(self, *names: str) -> None:
        """Raises Misconfigured, naming the variables, if one of these fields is None."""
        missing = [f"{TABLE[name].name} ({TABLE[name].meaning})" for name in names if getattr(self, name) is None]
        if missing:
            raise Misconfigured(f"not set: {'; '.join(missing)}", variables=len(missing))

    def _contradictions(self) -> list[str]:
        """What is wrong between variables that are each right."""
        wrong = []
        if self.model_url and not self.model:
            wrong.append("HEADSTART_MODEL_URL is set without HEADSTART_MODEL, the model's name there")
        if self.embeddings_url and not self.embeddings_model:
            wrong.append("HEADSTART_EMBEDDINGS_URL is set without HEADSTART_EMBEDDINGS_MODEL, the model's name there")
        if bool(self.kafka_user) != bool(self.kafka_password):
            wrong.append("HEADSTART_KAFKA_USER and HEADSTART_KAFKA_PASSWORD must be set together")
        if self.kafka_ca and not self.kafka_tls:
            wrong.append("HEADSTART_KAFKA_CA is set and HEADSTART_KAFKA_TLS is not true")
        if self.models and (self.model_url or self.model):
            wrong.append(
                "HEADSTART_MODELS names the models, so HEADSTART_MODEL and HEADSTART_MODEL_URL must not be set"
            )
        return wrong


TABLE: Final[Mapping[str, Variable]] = {
    item.name: item.metadata["variable"] for item in dataclasses.fields(Settings) if "variable" in item.metadata
}


def markdown() -> str:
    """The table for the README, one row per variable."""
    lines = ["| variable | value | without it | meaning |", "|---|---|---|---|"]
    for row in TABLE.values():
        names = f"`{row.name}`" + (f" or `{row.also}`" if row.also else "")
        default = f"`{row.default}`" if row.default else "–"
        lines.append(f"| {names} | {row.kind.expects} | {default} | {row.meaning} |")
    return "\n".join(lines) + "\n"


def _read(row: Variable, raw: str | None, environ: Mapping[str, str]) -> Any:
    if raw is None:
        return None
    if raw.startswith("~/") and "HOME" in environ:
        raw = environ["HOME"] + raw[1:]
    return row.kind.read(raw)


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = [row.name for row in TABLE.values()]
    wrong = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and not name.startswith(TESTS_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            wrong.append(f"{name} is not a setting" + (f", did you mean {near[0]}?" if near else ""))
    return wrong


if __name__ == "__main__":
    if sys.argv[1:] != ["--markdown"]:
        sys.exit("usage: python -m streams.settings --markdown")
    sys.stdout.write(markdown())
