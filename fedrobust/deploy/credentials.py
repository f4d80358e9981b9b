"""Certificates and keys made for one deployment: TLS for the SuperLink, a key pair for each SuperNode.

Private keys are never written to a file here.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Credentials", "NodeKey", "make_credentials", "make_node_key"]

#: A deployment on one machine is over well before.
_VALID = datetime.timedelta(days=7)
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Credentials:
    """What TLS between the SuperLink and everybody else needs.

    Attributes
    ----------
    authority : Path
        The certificate of the authority; SuperNodes and `flwr` check the SuperLink against it.
    certificate : Path
        The SuperLink's own, for localhost and 127.0.0.1.
    key : bytes
        Its private key, as PEM.
    """

    authority: Path
    certificate: Path
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class NodeKey:
    """A SuperNode's key pair in OpenSSH's format: the private half, and the file of the public one."""

    private: bytes = field(repr=False)
    public: Path


def make_credentials(folder: Path) -> Credentials:
    """Make a new authority and a server certificate for this machine; the authority's key is not kept.

    Parameters
    ----------
    folder : Path
        Is made with mode 0700 if it does not exist, for the certificates.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    authority_key, server_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    issuer = _name("fedrobust deploy-local")
    authority = _certificate(issuer, issuer, authority_key, authority_key)
    server = _certificate(_name("localhost"), issuer, server_key, authority_key)
    key = _private(server_key, serialization.PrivateFormat.PKCS8)
    made = Credentials(folder / "authority.pem", folder / "superlink.pem", key)
    made.authority.write_bytes(authority.public_bytes(_PEM))
    made.certificate.write_bytes(server.public_bytes(_PEM))
    return made


def make_node_key(folder: Path, name: str) -> NodeKey:
    """Make a SuperNode's key pair on the curve P-384, as `flower-supernode` reads it.

    Parameters
    ----------
    folder : Path
        Is made with mode 0700 if it does not exist, for the public key.
    name : str
        The file's name, without its ending ``.pub``.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    key = ec.generate_private_key(ec.SECP384R1())
    made = NodeKey(_private(key, serialization.PrivateFormat.OpenSSH), folder / f"{name}.pub")
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    made.public.write_bytes(key.public_key().public_bytes(*form))
    return made


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    """Return a certificate: an authority's if it signs itself, else a server's for this machine."""
    is_authority = subject == issuer
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), True)
        .add_extension(_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
    )
    if not is_authority:
        here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(here), critical=False)
    return builder.sign(issuer_key, hashes.SHA384())


def _usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(_PEM, form, serialization.NoEncryption())
