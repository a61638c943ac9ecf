"""How a process shows the broker who it is, and how the way there is encrypted: SASL and TLS, or neither."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from streams.errors import Misconfigured
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """user "": the broker asks for none. mechanism: SASL's name, such as `SCRAM-SHA-512`. tls: None speaks in clear."""

    user: str = ""
    password: str = field(default="", repr=False)
    mechanism: str = "SCRAM-SHA-512"
    tls: ssl.SSLContext | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> BrokerAccess:
        """Raises Misconfigured when the file of HEADSTART_KAFKA_CA holds no certificates."""
        tls = None
        if settings.kafka_tls:
            try:
                tls = ssl.create_default_context(cafile=str(settings.kafka_ca) if settings.kafka_ca else None)
            except ssl.SSLError as error:
                raise Misconfigured(
                    f"HEADSTART_KAFKA_CA: {settings.kafka_ca} holds no certificates", hint="a file in PEM format"
                ) from error
        return cls(settings.kafka_user or "", settings.kafka_password or "", settings.kafka_mechanism.upper(), tls)

    @property
    def protocol(self) -> str:
        """Kafka's name for it: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        channel = "PLAINTEXT" if self.tls is None else "SSL"
        return f"SASL_{channel}" if self.user else channel

    def options(self) -> dict[str, Any]:
        """What clients of aiokafka are opened with."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.tls is not None:
            options["ssl_context"] = self.tls
        if self.user:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        return options


OPEN = BrokerAccess()
"""For a broker that asks nobody who they are, such as those that are started on this machine."""
