"""The certificates of one control plane: its own authority, its servers, its users.

Written in PEM to a folder which lives and dies with the control plane. Elliptic-curve keys
throughout, since they are made in no time.
"""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
from collections.abc import Sequence

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import oid

_LIFETIME = datetime.timedelta(days=365)
# For a client on this machine whose clock was set back in between.
_BACKDATED = datetime.timedelta(hours=1)

_AUTHORITY = "ca"


class Authority:
    """A certificate authority in a folder, made there if the folder has none yet.

    Arguments:
        folder: for `ca.crt`, `ca.key` and all that is issued
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.certificate.exists():
            self._certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            key = serialization.load_pem_private_key(self.key.read_bytes(), password=None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._key = key
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            self._certificate = self._make_authority()
            _write_certificate(self.certificate, self._certificate)
            _write_key(self.key, self._key)

    @property
    def certificate(self) -> pathlib.Path:
        """The authority's own certificate."""
        return self._folder / f"{_AUTHORITY}.crt"

    @property
    def key(self) -> pathlib.Path:
        """The authority's private key."""
        return self._folder / f"{_AUTHORITY}.key"

    def issue_server(
        self, name: str, hosts: Sequence[str], addresses: Sequence[str]
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """A server's certificate and key.

        Arguments:
            name: of the server and of its files
            hosts: DNS names that it is reached by
            addresses: IP addresses that it is reached by
        """
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        subject = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, name)])
        return self._issue(name, subject, oid.ExtendedKeyUsageOID.SERVER_AUTH, names)

    def issue_client(
        self, file: str, user: str, groups: Sequence[str]
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """A user's certificate and key.

        Arguments:
            file: name of the files
            user: name that the API server knows the user by
            groups: that it puts the user into
        """
        subject = x509.Name(
            [x509.NameAttribute(oid.NameOID.ORGANIZATION_NAME, group) for group in groups]
            + [x509.NameAttribute(oid.NameOID.COMMON_NAME, user)]
        )
        return self._issue(file, subject, oid.ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def _make_authority(self) -> x509.Certificate:
        subject = x509.Name(
            [x509.NameAttribute(oid.NameOID.COMMON_NAME, "resumer local control plane")]
        )
        public = self._key.public_key()
        return (
            _builder(subject, subject, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _issue(
        self,
        file: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName],
    ) -> tuple[pathlib.Path, pathlib.Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        builder = (
            _builder(subject, self._certificate.subject, public)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate_file = self._folder / f"{file}.crt"
        key_file = self._folder / f"{file}.key"
        _write_certificate(certificate_file, builder.sign(self._key, hashes.SHA256()))
        _write_key(key_file, key)
        return certificate_file, key_file


def write_signing_key(private: pathlib.Path, public: pathlib.Path) -> None:
    """A key pair to sign ServiceAccount tokens with and to check them by."""
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(private, key)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def write_kubeconfig(
    file: pathlib.Path,
    server: str,
    authority: pathlib.Path,
    user: str,
    client: tuple[pathlib.Path, pathlib.Path],
) -> None:
    """A kubeconfig which names the certificates' files.

    It does not hold them, because the official client copies what it finds inside to temporary
    files, and leaves those behind where the process is killed.

    Arguments:
        file: to write
        server: URL of the API server
        authority: certificate that the server's is checked by
        user: what to call the user in it
        client: the user's certificate and key
    """
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "local",
                "cluster": {"server": server, "certificate-authority": str(authority)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate": str(client[0]),
                    "client-key": str(client[1]),
                },
            }
        ],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
        "current-context": "local",
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_certificate(file: pathlib.Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(file: pathlib.Path, key: ec.EllipticCurvePrivateKey) -> None:
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
