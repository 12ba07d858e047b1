from __future__ import annotations

import urllib.request

import prometheus_client
import pytest
from jina.serve.monitoring import _SummaryDeprecated

from semscale.serving.metrics import monitoring_arguments


def test_page_of_a_replica_is_readable_and_on_the_servers_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_client, "start_http_server", prometheus_client.start_http_server)
    monkeypatch.setattr(_SummaryDeprecated, "collect", _SummaryDeprecated.collect)
    arguments = monitoring_arguments(9100, 3, "127.0.0.1")
    assert arguments == {"monitoring": True, "port_monitoring": [9100, 9101, 9102]}

    registry = prometheus_client.CollectorRegistry()
    summary = _SummaryDeprecated("new_seconds", "a time", registry=registry, old_name="old_seconds")
    summary.observe(2.5)
    server, _ = prometheus_client.start_http_server(0, registry=registry)
    try:
        assert server.server_address[0] == "127.0.0.1"
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/metrics") as page:
            text = page.read().decode()
    finally:
        server.shutdown()
        server.server_close()
    assert "new_seconds_sum 2.5" in text
    assert "old_seconds_sum 2.5" in text
