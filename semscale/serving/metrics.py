"""Prometheus pages of the replicas, on the server's own address and readable with today's prometheus-client."""

from __future__ import annotations

import functools
from typing import Any


def monitoring_arguments(first_port: int | None, replicas: int, host: str) -> dict[str, Any]:
    """Return the arguments that make jina open one page per replica: replica r at port `first_port` + r.

    >>> monitoring_arguments(None, 2, "127.0.0.1")
    {}
    """
    if first_port is None:
        return {}
    import prometheus_client

    _mend_summaries()
    # jina calls it with a port alone, which would open the pages to every machine.
    prometheus_client.start_http_server = functools.partial(prometheus_client.start_http_server, addr=host)
    return {"monitoring": True, "port_monitoring": [first_port + replica for replica in range(replicas)]}


def _mend_summaries() -> None:
    """Let jina's summary metric pass on all that a sample has.

    It unpacks samples of five values; since prometheus-client has native histograms they have six, and every page
    fails after the first request.
    """
    from jina.serve.monitoring import _SummaryDeprecated

    def collect(self: Any) -> list[Any]:
        metric = self._get_metric()
        for suffix, *rest in self._samples():
            metric.add_sample(self._name + suffix, *rest)
            if self._old_name:
                metric.add_sample(self._old_name + suffix, *rest)
        return [metric]

    _SummaryDeprecated.collect = collect
