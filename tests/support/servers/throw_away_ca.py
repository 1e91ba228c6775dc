"""Creates a certificate authority for one test, and a server's certificate that it signs."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Python 3.13 and later trust no authority whose certificate does not say what its key is for.
SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def make_server(directory: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """Creates a certificate authority, and a server's certificate that it signs.

    Returns the file with the authority's certificate, and the TLS context of the server. `name` is the server's host
    name or IP address.
    """
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
    now = datetime.now(UTC)
    common = x509.CertificateBuilder().issuer_name(authority).not_valid_before(now - timedelta(days=1))
    common = common.not_valid_after(now + timedelta(days=1))
    issuer = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    root = (
        common.subject_name(authority)
        .public_key(authority_key.public_key())
        .serial_number(1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(issuer, critical=False)
        .add_extension(SIGNS_CERTIFICATES, critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        common.subject_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(2)
        .add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    trusted, chain = directory / f"authority-of-{name}.pem", directory / f"{name}.pem"
    trusted.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    return trusted, context


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
