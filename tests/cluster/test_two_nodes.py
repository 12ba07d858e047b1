"""A head and a worker node with a clip-server each: the same results as on one machine, and who did what is told."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import Jobs
from ray_nodes import ROOT, Nodes, Place, machines
from result_files import results_of

from semscale.common.progress import SilentReporter
from semscale.config import load_study
from semscale.study.pipeline import sweep

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(580)]

_PORTS = (51_321, 51_322)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two-nodes")


@pytest.fixture(scope="module")
def two(clone: Path, place: Path) -> Iterator[tuple[Jobs, list[str], list[Place]]]:
    """Jobs on two nodes, and the addresses of the servers, one on each.

    They share the store and the code; the second sees neither the head's runs nor its Ray's files.
    """
    (place / "logs").mkdir()
    (place / "runs").mkdir()
    nodes = Nodes(place / "logs")
    with machines(2, (place / "runs", nodes.folder)) as places:
        try:
            urls = []
            for there, port in zip(places, _PORTS, strict=True):
                serve = [sys.executable, "-m", "semscale", "serve", "--host", there.address, "--port", str(port)]
                nodes.start(serve, there, PYTHONPATH=str(ROOT))
                urls.append(f"grpc://{there.address}:{port}")
            nodes.start_head(places[0], SEMSCALE_STORE=str(place / "store"))
            nodes.start_worker(places[1], SEMSCALE_STORE=str(place / "store"))
            nodes.wait(2)
            yield Jobs(nodes, clone), urls, places
        finally:
            nodes.close()


def test_quickstart_on_two_nodes_is_the_quickstart(
    two: tuple[Jobs, list[str], list[Place]], clone: Path, place: Path, mini_server: str, ray_session: None
) -> None:
    jobs, urls, places = two
    (clone / "quickstart.yaml").write_text("name: quickstart\n")
    servers = [word for url in urls for word in ("--server", url)]
    done = jobs.submit("quickstart.yaml", "--", *servers, "--out", f"{place}/runs/two")
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "96 trials, 8 curves; sent to the server: 2096 images, 530 texts" in done.stdout
    work = pd.read_csv(place / "runs" / "two" / "logs" / "encoding.csv")
    assert work[["images", "texts"]].sum().tolist() == [2096, 530]
    assert set(work["endpoint"]) == set(urls)
    assert work.groupby("node")["images"].sum().min() > 0
    assert work["node"].nunique() == 2
    if places[0] != places[1]:
        assert {node.split()[0] for node in work["node"]} == {there.address for there in places}
    assert all(node in done.stdout for node in work["node"])
    changes = {("server", "urls"): ("--server", [mini_server]), ("store",): ("--store", str(place / "one-store"))}
    one = sweep(load_study(clone / "quickstart.yaml", changes), place / "runs" / "one", SilentReporter())
    assert results_of(place / "runs" / "two") == results_of(one.directory)


def test_store_that_a_node_does_not_see_is_told_before_anything_is_sent(
    two: tuple[Jobs, list[str], list[Place]], place: Path
) -> None:
    jobs, urls, places = two
    if not places[0].prefix:
        pytest.skip("no right to make network namespaces: both nodes see the same disk")
    store = place / "runs" / "hidden-store"
    done = jobs.submit("quickstart.yaml", "--", "--server", urls[0], "--store", str(store), "--runs", f"{place}/runs")
    assert done.returncode == 1
    assert "the nodes of the cluster do not share the embedding store" in done.stdout
    assert f"not seen from {places[1].address}" in done.stdout
    assert not any(store.iterdir())
    shutil.rmtree(store)
