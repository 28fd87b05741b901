"""What every Kafka client of ours shares: settings that are wrong, and refusals that trying again will not mend."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

from broker.core.errors import TocsinError, Wait

T = TypeVar("T")
HANDSHAKE_S = 5.0
LOOK_S = 1.0
_EXPIRED, _NOT_YET, _OTHER_HOST = (10,), (9,), (62, 64)  # OpenSSL's X509_V_ERR_*


def client(kind: Callable[[dict[str, Any]], T], settings: dict[str, Any]) -> T:
    """Return a Kafka client of ``kind`` (Consumer, Producer, AdminClient).

    Raises
    ------
    TocsinError
        A setting is wrong, or names a file that cannot be read.
    """
    try:
        return kind(settings)
    except KafkaException as error:
        raise TocsinError(f"Kafka's client does not take the settings: {error.args[0].str()}") from error


class Refusal:
    """Listens to error events (librdkafka's ``error_cb``) for a login or a certificate that is refused.

    librdkafka tries both for ever, and does not say what is wrong with a certificate; one handshake of our own does.

    Parameters
    ----------
    settings : dict
        librdkafka's, of the client that it listens to.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings, self._text, self._doubted = settings, "", ""

    def __call__(self, error: KafkaError) -> None:
        """Take an error event."""
        if error.code() == KafkaError._AUTHENTICATION:
            self._text = f"Kafka refuses the login: {error.str()}"
        elif error.code() == KafkaError._SSL:
            self._doubted = error.str()

    def forget(self) -> None:
        """Note that Kafka let us in."""
        self._text = self._doubted = ""

    def why(self) -> str:
        """Return one sentence on what is refused, or '' for nothing."""
        doubted, self._doubted = self._doubted, ""
        found = re.match(r"\w+://\[?([^/\]]+)\]?:(\d+)/", doubted)
        if not self._text and found:
            self._text = certificate_fault(found[1], int(found[2]), self._settings)
        return self._text

    def topics(self, kafka: Any, timeout_s: float) -> dict[str, Any]:
        """Return the topics that the client ``kafka`` sees, by name.

        Raises
        ------
        TocsinError
            Kafka refuses us.
        Wait
            It does not answer in time.
        """
        end = time.monotonic() + timeout_s
        while True:
            left = end - time.monotonic()
            try:
                there: dict[str, Any] = kafka.list_topics(timeout=max(0.1, min(left, LOOK_S))).topics
            except KafkaException as error:
                kafka.poll(0)  # serves the error events
                if self.why():
                    raise TocsinError(self.why()) from error
                if left <= LOOK_S:
                    raise Wait(f"Kafka does not answer: {error.args[0].str()}") from error
            else:
                self.forget()
                return there


def certificate_fault(host: str, port: int, settings: dict[str, Any]) -> str:
    """Return what is wrong with a server's certificate, as librdkafka's ``settings`` would check it, or ''."""
    if str(settings.get("enable.ssl.certificate.verification", True)).lower() == "false":
        return ""
    server = f"the certificate of Kafka at {host}:{port}"
    try:
        context = ssl.create_default_context(cafile=settings.get("ssl.ca.location"), cadata=settings.get("ssl.ca.pem"))
        context.check_hostname = settings.get("ssl.endpoint.identification.algorithm", "https") == "https"
        with socket.create_connection((host, port), HANDSHAKE_S) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _EXPIRED:
            return f"{server} has expired"
        if error.verify_code in _NOT_YET:
            return f"{server} is not valid yet: is this machine's clock right?"
        if error.verify_code in _OTHER_HOST:
            return f"{server} is another host's: {error.verify_message}"
        text = f"{server} is not signed by an authority that we trust ({error.verify_message})"
        return f'{text}: see "ssl.ca.location" in [kafka.client]'
    except (OSError, ValueError):  # not the certificate, or nobody there: librdkafka tries again
        return ""
    return ""
