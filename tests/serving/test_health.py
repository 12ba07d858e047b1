"""``semscale health``: exit status 0 only if the server encodes."""

from __future__ import annotations

import json
import socket

import pytest
from click.testing import CliRunner, Result

from semscale.cli import main


def health(url: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["health", url, *options])


def test_a_server_that_encodes_is_healthy(mini_server: str) -> None:
    result = health(mini_server)
    assert (result.exit_code, result.stdout) == (0, f"{mini_server} encodes, dimension 96\n")
    assert json.loads(health(mini_server, "--json").stdout) == {"url": mini_server, "dimension": 96}


def test_no_server_is_status_1_and_one_message() -> None:
    with socket.socket() as taken:  # bound but not listening: no other process gets the port
        taken.bind(("127.0.0.1", 0))
        result = health(f"grpc://127.0.0.1:{taken.getsockname()[1]}", "--timeout", "2", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: the clip-server does not answer")


@pytest.mark.parametrize("url", ["http://127.0.0.1:51000", "127.0.0.1:51000", "grpc://127.0.0.1", "grpc://a:b"])
def test_an_invalid_address_is_status_1(url: str) -> None:
    result = health(url)
    assert result.exit_code == 1
    assert "not the address of a clip-server" in result.stderr
