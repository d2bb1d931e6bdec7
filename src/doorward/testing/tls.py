"""Throwaway TLS: a private CA of one certificate, for servers on loopback."""

from __future__ import annotations

import datetime as dt
import ssl
import tempfile
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Sequence

LIFE = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ThrowawayTls:
    """A server context with a fresh certificate, and what a client needs to trust it."""

    server: ssl.SSLContext
    ca_pem: bytes
    """The certificate, for a file that `auth.ca_file` names."""

    def client(self) -> ssl.SSLContext:
        """A context that trusts this certificate alone."""
        return ssl.create_default_context(cadata=self.ca_pem.decode())


def throwaway_tls(names: Sequence[str] = ("localhost", "127.0.0.1", "::1")) -> ThrowawayTls:
    """Make a self-signed certificate for these DNS names and addresses, good for a day.

    Goes through a file for a moment: call it before the loop runs.

    Args:
        names: host names and IP addresses.
    """
    ca_pem, key_pem = throwaway_pem(names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder, "chain.pem")
        chain.write_bytes(key_pem + ca_pem)
        context.load_cert_chain(chain)
    return ThrowawayTls(context, ca_pem)


def throwaway_pem(names: Sequence[str]) -> tuple[bytes, bytes]:
    """The same as PEM, the certificate and its key, for a server that is another program."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = _certificate(key, names).public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    return pem, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def _certificate(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LIFE)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    return builder.sign(key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
