"""The certificate authority of one run: made when it begins, with a key that never leaves this process's memory.

The only program in a container that needs more than the standard library, and the only module that imports it.
"""

import datetime as dt
import secrets

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SPARE = dt.timedelta(hours=1)
_EARLY = dt.timedelta(minutes=5)
_COMMON_NAME_CHARACTERS = 64


class Authority:
    """Certificates for names of hosts, all with one key, for as long as the run may take and an hour more."""

    def __init__(self, *, seconds: float, now: dt.datetime) -> None:
        self._begin = now - _EARLY
        self._end = now + dt.timedelta(seconds=seconds) + _SPARE
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"Errand run {secrets.token_hex(8)}")
        self._certificate = self._sign_itself()

    @property
    def certificate(self) -> str:
        """For those who are to trust it, as PEM."""
        return self._certificate.public_bytes(Encoding.PEM).decode("ascii")

    def leaf(self, host: str) -> bytes:
        """A certificate for the host, and its key, as PEM."""
        leaf = (
            self._builder(_name(host[:_COMMON_NAME_CHARACTERS]), self._leaf_key)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(leaf=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        key = self._leaf_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, encryption_algorithm=NoEncryption()
        )
        return leaf.public_bytes(Encoding.PEM) + key

    def _sign_itself(self) -> x509.Certificate:
        return (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(leaf=False), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._begin)
            .not_valid_after(self._end)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        encipher_only=False,
        decipher_only=False,
    )
