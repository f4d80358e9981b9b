"""Certificates and keys made for one deployment: TLS for the SuperLink, a key pair for each SuperNode."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
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
    """Files for TLS between the SuperLink and everybody else.

    Attributes
    ----------
    authority : Path
        The certificate of the authority; SuperNodes and `flwr` check the SuperLink against it.
    certificate, key : Path
        The SuperLink's own, for localhost and 127.0.0.1.
    """

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class NodeKey:
    """Files of a SuperNode's key pair, in OpenSSH's format: the private one stays with the hospital."""

    private: Path
    public: Path


def make_credentials(folder: Path) -> Credentials:
    """Write a new authority and a server certificate for this machine; the authority's key is not kept.

    Parameters
    ----------
    folder : Path
        Is made with mode 0700 if it does not exist; private keys in it get mode 0600.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    authority_key, server_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    issuer = _name("fedrobust deploy-local")
    authority = _certificate(issuer, issuer, authority_key, authority_key)
    server = _certificate(_name("localhost"), issuer, server_key, authority_key)
    made = Credentials(folder / "authority.pem", folder / "superlink.pem", folder / "superlink.key")
    made.authority.write_bytes(authority.public_bytes(_PEM))
    made.certificate.write_bytes(server.public_bytes(_PEM))
    _write_private(made.key, server_key, serialization.PrivateFormat.PKCS8)
    return made


def make_node_key(folder: Path, name: str) -> NodeKey:
    """Write a SuperNode's key pair on the curve P-384, as `flower-supernode` reads it.

    Parameters
    ----------
    folder : Path
        Is made with mode 0700 if it does not exist; the private key gets mode 0600.
    name : str
        The files' name; the public one ends in ``.pub``.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    key = ec.generate_private_key(ec.SECP384R1())
    made = NodeKey(folder / name, folder / f"{name}.pub")
    _write_private(made.private, key, serialization.PrivateFormat.OpenSSH)
    public = key.public_key()
    made.public.write_bytes(
        public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
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


def _write_private(file: Path, key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> None:
    """Write a private key that no other user can read at any moment."""
    text = key.private_bytes(_PEM, form, serialization.NoEncryption())
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(text)
