from pathlib import Path

import pytest

from runner.images.hostconfig import certificates, npmrc, pip_conf

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def silent(_: str) -> None:
    """Nobody needs to know."""


def test_the_index_is_where_pip_on_this_host_looks_and_the_environment_wins() -> None:
    listing = (
        "global.index-url='https://pip.acme.test/simple'\n"
        ":env:.extra-index-url='https://more.acme.test/simple file:///opt/simple'\n"
        "global.trusted-host='pip.acme.test:8443'\n"
        "global.cert='/etc/ssl/acme.pem'\n"
        "install.user='true'\n"
        ":env:.index-url='http://env.acme.test/simple'\n"
    )
    assert pip_conf(listing, progress=silent).splitlines() == [
        "[global]",
        "break-system-packages = true",
        "disable-pip-version-check = true",
        "index-url = http://env.acme.test/simple",
        "extra-index-url = https://more.acme.test/simple",
        "trusted-host = pip.acme.test:8443",
    ]


def test_the_scopes_of_npm_are_taken_and_its_tokens_are_not() -> None:
    listing = """{
      "registry": "https://npm.acme.test/", "@acme:registry": "https://scoped.acme.test/npm/",
      "//npm.acme.test/:_authToken": "npm_secret", "_auth": "c2VjcmV0", "proxy": null, "cafile": "/x"
    }"""
    assert npmrc(listing, progress=silent) == (
        "@acme:registry=https://scoped.acme.test/npm/\nregistry=https://npm.acme.test/\n"
    )


@pytest.mark.parametrize("listing", ["", "no JSON", "[]", '{"registry": "file:///x"}'])
def test_what_npm_does_not_say_is_left_to_the_image(listing: str) -> None:
    assert npmrc(listing, progress=silent) == ""


def test_credentials_stay_out_and_that_is_told() -> None:
    told: list[str] = []
    text = pip_conf(
        "global.index-url='https://dana:hunter2@pip.acme.test/simple?token=x#y'",
        progress=told.append,
    )
    text += npmrc('{"registry": "https://hunter2@npm.acme.test/"}', progress=told.append)
    assert "hunter2" not in text
    assert "token" not in text
    assert "https://pip.acme.test/simple\n" in text
    assert told == [
        "leaving the credentials for pip.acme.test out of the image",
        "leaving the credentials for npm.acme.test out of the image",
    ]


def test_certificates_are_taken_and_keys_are_not(tmp_path: Path) -> None:
    (tmp_path / "acme ca.pem").write_bytes(CERTIFICATE)
    (tmp_path / "both.crt").write_bytes(CERTIFICATE + b"-----BEGIN RSA PRIVATE KEY-----\n")
    (tmp_path / "notes.txt").write_bytes(CERTIFICATE)
    (tmp_path / "empty.crt").write_bytes(b"")
    found = certificates((tmp_path, tmp_path / "none"))
    assert found == {"usr/local/share/ca-certificates/acme-ca.crt": CERTIFICATE}
