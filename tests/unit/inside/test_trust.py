"""The certificates that the agent's container trusts."""

import datetime as dt
import hashlib
import ssl
import struct
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from policies.egress import canonical_host
from runner.inside import trust
from runner.inside.authority import Authority
from tests.support.fuzz import patient

NOW = dt.datetime(2026, 11, 20, 12, 0, tzinfo=dt.UTC)


def an_authority(seconds: float = 3600) -> Authority:
    return Authority(seconds=seconds, now=NOW)


def test_the_bundle_holds_the_systems_certificates_and_ours(tmp_path: Path) -> None:
    system, ours = an_authority().certificate, an_authority().certificate
    (tmp_path / "system.crt").write_text(system)
    trust.write(tmp_path, ours, system=tmp_path / "system.crt")
    assert (tmp_path / "bundle.pem").read_text() == f"{system}{ours}"
    assert (tmp_path / "errand.pem").read_text() == ours
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in tmp_path.glob("[be]*.pem"))
    context = ssl.create_default_context(cafile=str(tmp_path / "bundle.pem"))
    assert context.cert_store_stats()["x509_ca"] == 2


def test_a_container_without_certificates_of_its_own_has_ours(tmp_path: Path) -> None:
    trust.write(tmp_path, "ours\n", system=tmp_path / "missing")
    assert (tmp_path / "bundle.pem").read_text() == "ours\n"


def test_a_place_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        trust.write(tmp_path / "missing", "ours\n", system=tmp_path / "system")


def test_java_finds_every_certificate_in_its_store() -> None:
    bundle = an_authority().certificate + an_authority().certificate
    store = trust.keystore(bundle)
    assert struct.unpack(">III", store[:12]) == (0xFEEDFEED, 2, 2)
    for pem in bundle.split("-----END CERTIFICATE-----\n")[:-1]:
        assert ssl.PEM_cert_to_DER_cert(f"{pem}-----END CERTIFICATE-----\n") in store
    sealed = "changeit".encode("utf-16-be") + b"Mighty Aphrodite" + store[:-20]
    assert hashlib.sha1(sealed, usedforsecurity=False).digest() == store[-20:]


def test_every_variable_names_a_file_that_is_written(tmp_path: Path) -> None:
    trust.write(tmp_path, an_authority().certificate)
    for value in trust.TRUST_ENV.values():
        named = value.partition("trustStore=")[2].split()[0] if "trustStore=" in value else value
        assert (tmp_path / Path(named).name).exists()
        assert Path(named).parent == Path(trust.DIRECTORY)


def test_the_authority_ends_with_the_run_and_makes_no_other() -> None:
    found = x509.load_pem_x509_certificate(an_authority(600).certificate.encode())
    assert found.not_valid_after_utc - NOW == dt.timedelta(seconds=600 + 3600)
    constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (
        True,
        True,
        0,
    )


def test_two_runs_have_two_authorities() -> None:
    assert an_authority().certificate != an_authority().certificate


@patient
@given(st.from_regex(r"([a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?\.){1,8}[a-z]{2,10}", fullmatch=True))
def test_there_is_a_certificate_for_every_host(host: str) -> None:
    if canonical_host(host.encode()) != host:
        return
    pem = AUTHORITY.leaf(host)
    leaf = x509.load_pem_x509_certificate(pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [host]
    ca = x509.load_pem_x509_certificate(AUTHORITY.certificate.encode())
    leaf.verify_directly_issued_by(ca)
    assert AUTHORITY.certificate.encode() not in pem


AUTHORITY = an_authority()
