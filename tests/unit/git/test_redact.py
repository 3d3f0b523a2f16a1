import base64

from runner.gitprocess import redact

BASIC = base64.b64encode(b"x-access-token:ghp_secret").decode()
HEADER = f"Authorization: Basic {BASIC}"


def test_no_form_of_the_credential_survives() -> None:
    said = redact(f"fatal: {HEADER} {BASIC} https://x:ghp_secret@h/ done", HEADER)
    assert "ghp_secret" not in said
    assert BASIC not in said
    assert said.endswith("done")


def test_a_header_that_is_no_base64_is_hidden_as_it_is() -> None:
    assert redact("token: Bearer abc!d", "Authorization: Bearer abc!d") == "token: Bearer ***"


def test_a_remote_cannot_move_the_cursor() -> None:
    assert redact("remote: \x1b[2Jhi\rho\x9b\n", None) == "remote: [2Jhi\nho\n"
