"""How the agent's container comes to trust the gateway: a read-only directory with certificates, and the variables that name it.

The gateway writes it before it says that it is ready, and nothing of the run begins before that.
"""

import hashlib
import re
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

DIRECTORY = "/run/trust"
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_OURS, _BUNDLE, _KEYSTORE = "errand.pem", "bundle.pem", "bundle.jks"
_ALL = f"{DIRECTORY}/{_BUNDLE}"
TRUST_ENV: Mapping[str, str] = MappingProxyType(
    {
        # These replace what a program trusts by itself, so they name the system's certificates and ours.
        "SSL_CERT_FILE": _ALL,
        "CURL_CA_BUNDLE": _ALL,
        "REQUESTS_CA_BUNDLE": _ALL,
        "PIP_CERT": _ALL,
        "GIT_SSL_CAINFO": _ALL,
        "CARGO_HTTP_CAINFO": _ALL,
        "AWS_CA_BUNDLE": _ALL,
        # These add to it.
        "NODE_EXTRA_CA_CERTS": f"{DIRECTORY}/{_OURS}",
        "DENO_CERT": f"{DIRECTORY}/{_OURS}",
        "JAVA_TOOL_OPTIONS": f"-Djavax.net.ssl.trustStore={DIRECTORY}/{_KEYSTORE} -Djavax.net.ssl.trustStoreType=JKS",
    }
)
_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n.*?\n-----END CERTIFICATE-----\n?", re.DOTALL
)
_JKS_MAGIC, _JKS_VERSION, _JKS_TRUSTED = 0xFEEDFEED, 2, 2
# What a key store is sealed with when nobody needs a secret: whoever can change the file can read this, too.
_JKS_SEAL = "changeit".encode("utf-16-be") + b"Mighty Aphrodite"


def write(directory: Path, certificate: str, *, system: Path = SYSTEM_BUNDLE) -> None:
    """Put there what the agent's container trusts. Raises OSError."""
    known = system.read_text("ascii", "ignore") if system.exists() else ""
    bundle = f"{known.rstrip()}\n{certificate}".lstrip()
    _put(directory / _OURS, certificate.encode("ascii"))
    _put(directory / _KEYSTORE, keystore(bundle))
    _put(directory / _BUNDLE, bundle.encode("ascii"))


def _put(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    fresh.replace(path)


def keystore(bundle: str) -> bytes:
    """The certificates as Java wants them."""
    found = [ssl.PEM_cert_to_DER_cert(match[0]) for match in _CERTIFICATE.finditer(bundle)]
    data = struct.pack(">III", _JKS_MAGIC, _JKS_VERSION, len(found))
    for number, certificate in enumerate(found):
        data += struct.pack(">I", _JKS_TRUSTED) + _utf(f"ca-{number}") + bytes(8) + _utf("X.509")
        data += struct.pack(">I", len(certificate)) + certificate
    return data + hashlib.sha1(_JKS_SEAL + data, usedforsecurity=False).digest()


def _utf(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode("ascii")
