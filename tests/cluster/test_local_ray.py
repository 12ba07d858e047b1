"""The Ray that a sweep starts: nobody else on the machine or the network reaches it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import ray

from semscale.cluster.local_ray import private_folder


@pytest.mark.usefixtures("ray_session")
def test_ray_is_reached_by_this_user_alone() -> None:
    ray.get(ray.remote(lambda: 1).remote())  # a worker is there
    node = ray._private.worker._global_node
    begun = [psutil.Process(one.process.pid) for kind in node.all_processes.values() for one in kind]
    # not this process, which may serve something for another test
    processes = [*begun, *(child for one in begun for child in one.children(recursive=True))]
    listening = [
        (process.name(), place.laddr.ip)
        for process in processes
        for place in process.net_connections("inet")
        if place.status == psutil.CONN_LISTEN
    ]
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {address.removeprefix("::ffff:") for _, address in listening} <= {"127.0.0.1", "::1"}, listening
    # of what is in it Ray opens some to all, again with every worker
    assert Path(node.get_session_dir_path()).parents[1].stat().st_mode & 0o077 == 0
    assert (Path.home() / ".ray" / "auth_token").stat().st_mode & 0o077 == 0


def test_the_folder_of_ray_is_one_that_nobody_else_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "scratch"))
    folder = private_folder()
    assert folder.parent == tmp_path / "scratch"
    assert folder == private_folder()
    folder.chmod(0o755)
    another = private_folder()
    assert another != folder
    assert (another.parent, another.stat().st_mode & 0o077) == (folder.parent, 0)
