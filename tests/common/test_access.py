"""Credentials for clip-servers: sources, rejected files and values, and no token in any representation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from semscale.common.access import Access, read_access, read_token
from semscale.common.errors import SemscaleError


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_file_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEMSCALE_SERVER_TOKEN", raising=False)
    assert read_token() is None
    monkeypatch.setenv("SEMSCALE_SERVER_TOKEN", "of-the-environment")
    assert read_token() == "of-the-environment"
    assert read_token(write(tmp_path / "token", "of-the-file\n", 0o640)) == "of-the-file"


@pytest.mark.parametrize(("mode", "can"), [(0o620, "write to"), (0o602, "write to"), (0o644, "read"), (0o666, "read")])
def test_a_file_that_is_open_to_others_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, can: str
) -> None:
    token = write(tmp_path / "token", "planted", mode)
    with pytest.raises(SemscaleError, match=f"others can {can} the token file") as caught:
        read_token(token)
    assert "planted" not in str(caught.value)
    assert caught.value.hint == f"chmod 600 {token}"
    monkeypatch.setattr("semscale.common.access._MOUNTED_SECRETS", tmp_path)
    if mode == 0o644:  # as containers mount it
        assert read_token(token) == "planted"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("two words", "cannot be sent"),
        ("Schlüssel", "cannot be sent"),
        ("a\0b", "cann"),
    ],
)
def test_an_invalid_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, what: str) -> None:
    with pytest.raises(SemscaleError, match=what):
        read_token(write(tmp_path / "token", text))
    if "\0" not in text:
        monkeypatch.setenv("SEMSCALE_SERVER_TOKEN", text)
        with pytest.raises(SemscaleError, match=what) as caught:
            read_token()
        assert caught.value.where == "SEMSCALE_SERVER_TOKEN"


def test_a_pipe_is_refused_as_token_and_authority_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for read in (lambda path: read_access(token_file=path), lambda path: read_access(ca_file=path)):
        with pytest.raises(SemscaleError, match="cannot be read") as caught:
            read(tmp_path / "pipe")
        assert caught.value.found == "not a regular file"


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SemscaleError, match="token file cannot be read") as caught:
        read_access(token_file=tmp_path / "nowhere")
    assert caught.value.where == str(tmp_path / "nowhere")
    with pytest.raises(SemscaleError, match="certificate authority cannot be read"):
        read_access(ca_file=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_invalid_authority_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SemscaleError, match="not a file of certificates"):
        read_access(ca_file=write(tmp_path / "ca.pem", text))


def test_no_representation_and_no_message_contains_the_token() -> None:
    from semscale.encoding.encoder_actor import ActorSettings
    from semscale.store.encoder_fingerprint import EncoderIdentity

    access = Access("s3cret-token", b"pem")
    identity = EncoderIdentity("m", "f", 2, None)
    settings = ActorSettings(Path("store"), identity, None, None, 1.0, access)
    texts = [repr(access), str(access), f"{access}", repr(settings), str(access.token_error("grpc://a:1"))]
    assert not [text for text in texts if "s3cret" in text]
