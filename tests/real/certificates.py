"""Certificates made on the spot: an authority, and what it says of a server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """Signs certificates; its own is what a client trusts."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self, folder: Path, name: str = "ca.pem") -> Path:
        (folder / name).write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return folder / name

    def server(self, folder: Path, name: str, host: str, *, days: tuple[int, int] = (-1, 30)) -> Path:
        """Write key and certificate of a server called ``host``, valid between two days from now, as Kafka reads it."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(host)]
        if host == "127.0.0.1":
            names = [x509.IPAddress(ipaddress.ip_address(host))]
        made = (
            _builder(host, key, self.certificate.subject, days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = made.public_bytes(serialization.Encoding.PEM)
        (folder / name).write_bytes(private + chain + self.certificate.public_bytes(serialization.Encoding.PEM))
        return folder / name


def authority(name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key, None, (-10, 3650))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name | None, days: tuple[int, int]
) -> x509.CertificateBuilder:
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
    )
