from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

from clip_client import Client

from semscale.serving.launcher import launch_server


def test_page_of_a_replica_counts_requests_and_listens_on_the_servers_address(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with launch_server("semscale-mini", metrics_port=port, num_threads=1, log_file=tmp_path / "log") as server:
        assert Client(server.url).encode(["a cat", "a dog"]).shape == (2, 96)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            text = page.read().decode()
        for line in (
            'jina_successful_requests_total{runtime_name="clip/rep-0"} 1.0',
            'jina_document_processed_total{executor_endpoint="/encode",runtime_name="clip/rep-0"} 2.0',
            'jina_encode_texts_seconds_count{runtime_name="clip/rep-0"} 1.0',
        ):
            assert line in text
        assert f"metrics of replica 0 at http://127.0.0.1:{port}" in server.log_file.read_text()
