"""Local Ray of a sweep: only reachable by its user, on this machine."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import ray

from semscale.cluster.local_ray import private_folder


@pytest.mark.usefixtures("ray_session")
def test_only_this_user_can_reach_ray() -> None:
    ray.get(ray.remote(lambda: 1).remote())  # starts a worker
    node = ray._private.worker._global_node
    started = [psutil.Process(info.process.pid) for kind in node.all_processes.values() for info in kind]
    # not this process, which may listen for another test
    processes = [*started, *(child for process in started for child in process.children(recursive=True))]
    listening = [
        (process.name(), connection.laddr.ip)
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {address.removeprefix("::ffff:") for _, address in listening} <= {"127.0.0.1", "::1"}, listening
    # Ray makes parts of its session readable for all, with every worker
    assert Path(node.get_session_dir_path()).parents[1].stat().st_mode & 0o077 == 0
    assert (Path.home() / ".ray" / "auth_token").stat().st_mode & 0o077 == 0


def test_the_folder_of_ray_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "scratch"))
    folder = private_folder()
    assert folder.parent == tmp_path / "scratch"
    assert folder == private_folder()
    folder.chmod(0o755)
    another = private_folder()
    assert another != folder
    assert (another.parent, another.stat().st_mode & 0o077) == (folder.parent, 0)
