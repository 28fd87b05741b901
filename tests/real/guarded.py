"""A Kafka that asks for a password: SCRAM behind TLS, one listener per certificate, and SCRAM without TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from broker.cli import kafkaserver

from .certificates import authority

USER, PASSWORD = "astronomer", "s3cr;t of (the) 'broker'"
LISTENERS = ("GOOD", "EXPIRED", "ELSEWHERE", "NOTLS")  # ELSEWHERE: its certificate names another host


@dataclass(frozen=True)
class GuardedKafka:
    """The server and how to reach its listeners."""

    directory: Path
    libs: Path
    ports: dict[str, int]
    ca: Path
    other_ca: Path

    def settings(self, listener: str = "GOOD", **more: Any) -> dict[str, Any]:
        """Return a ``[kafka]`` table."""
        table = {"brokers": f"127.0.0.1:{self.ports[listener]}", "username": USER, "password": PASSWORD}
        table |= {"protocol": "SASL_PLAINTEXT"} if listener == "NOTLS" else {"protocol": "SASL_SSL"}
        client = {} if listener == "NOTLS" else {"ssl.ca.location": str(self.ca)}
        return {**table, "client": client, **more}

    @property
    def plain(self) -> str:
        """The address of the listener that asks for nothing."""
        return kafkaserver.status(self.directory).bootstrap

    @property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.plain})


def start(directory: Path, libs: Path) -> GuardedKafka:
    """Start the server; its listener without a password is for the tests' own look into it."""
    ours, theirs = authority("Tocsin's tests"), authority("somebody else")
    plain, *free = (kafkaserver.free_port() for _ in range(len(LISTENERS) + 1))
    ports = dict(zip(LISTENERS, free, strict=True))
    certificates = {
        "GOOD": ours.server(directory, "good.pem", "127.0.0.1"),
        "EXPIRED": ours.server(directory, "expired.pem", "127.0.0.1", days=(-30, -1)),
        "ELSEWHERE": ours.server(directory, "elsewhere.pem", "kafka.example.org"),
    }
    addresses = ",".join(f"{name}://127.0.0.1:{port}" for name, port in {"PLAINTEXT": plain, **ports}.items())
    controller = kafkaserver.free_port()
    more = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"{addresses},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": addresses,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,NOTLS:SASL_PLAINTEXT,"
        + ",".join(f"{name}:SASL_SSL" for name in certificates),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
    }
    for name, file in certificates.items():
        more[f"listener.name.{name.lower()}.ssl.keystore.type"] = "PEM"
        more[f"listener.name.{name.lower()}.ssl.keystore.location"] = str(file)
    for name in LISTENERS:
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        more[f"listener.name.{name.lower()}.scram-sha-512.sasl.jaas.config"] = login
    kafkaserver.up(directory, libs, port=plain, more=more)
    found = GuardedKafka(directory, libs, ports, ours.pem(directory), theirs.pem(directory, "other.pem"))
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    upsertion = UserScramCredentialUpsertion(USER, scram, PASSWORD.encode())
    admin = found.admin  # must outlive its futures
    for future in admin.alter_user_scram_credentials([upsertion]).values():
        future.result()
    return found
