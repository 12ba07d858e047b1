"""Planted passwords, tokens and signatures: nothing that a run writes, prints or records has them, however it ends."""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import matplotlib
import pytest
import yaml

from semscale.common.errors import SemscaleError
from semscale.common.redact import mask_url
from semscale.config import study_from
from semscale.datasets.loader_registry import load_dataset
from semscale.tracking.tracking_store import open_store

TRACKING, DATASET, SIGNATURE = "trackingpw5417", "datasetpw6628", "signature7739"
IN_ENVIRONMENT = {
    "MLFLOW_TRACKING_PASSWORD": "mlflowenv8840",
    "HF_TOKEN": "hf_token9951",
    "AWS_SECRET_ACCESS_KEY": "aws1062",
}
PLANTED = [TRACKING, DATASET, SIGNATURE, *IN_ENVIRONMENT.values()]


def forms(secret: str) -> list[bytes]:
    texts = {secret, quote(secret), *(f"{user}:{secret}" for user in ("ann", "bob"))}
    return [text.encode() for text in texts] + [base64.b64encode(text.encode()).rstrip(b"=") for text in texts]


def leaks(content: bytes) -> list[str]:
    return [secret for secret in PLANTED if any(form in content for form in forms(secret))]


@dataclass
class Remains:
    """What a run leaves behind: how it ended, what it said, and its folders."""

    status: int
    said: str
    run: Path
    folders: list[Path]

    def leaks(self) -> dict[str, list[str]]:
        files = [path for folder in self.folders for path in folder.rglob("*") if path.is_file()]
        found = {str(path): leaks(path.read_bytes()) for path in files}
        found["said"] = leaks(self.said.encode())
        return {place: secrets for place, secrets in found.items() if secrets}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, without its scheme, of a web server with an archive of shapes."""
    spec = importlib.util.spec_from_file_location("remote", Path(__file__).parents[1] / "datasets" / "test_remote.py")
    assert spec is not None
    assert spec.loader is not None
    remote = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(remote)
    root = tmp_path_factory.mktemp("web")
    dataset = load_dataset("shapes", limit=36)
    with zipfile.ZipFile(root / "shapes.zip", "w") as file:
        for i, sample in enumerate(dataset.samples):
            file.writestr(f"{sample.true_class}/{i}.png", dataset.reader.read(sample.location))
        file.writestr("circle/bad.png", b"no picture")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(remote.Handler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="s"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def study(web: str, server: str, **changes: object) -> dict[str, object]:
    return {
        "name": "secrets",
        "datasets": [
            {
                "spec": f"zip:http://ann:{DATASET}@{web}/shapes.zip?X-Signature={SIGNATURE}",
                "name": "shapes",
                "domain": "shape",
            }
        ],
        "strategies": ["templates"],
        "controls": [],
        "steps": 2,
        "max_bad_fraction": 0.2,
        "server": {"urls": [server]},
        **changes,
    }


def carry_out(tree: dict[str, object], folder: Path, tracking: str, others: list[Path]) -> Remains:
    for name in ("home", "tmp", "ray", "work"):
        (folder / name).mkdir(parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        **IN_ENVIRONMENT,
        "MLFLOW_TRACKING_USERNAME": "bob",
        "HOME": str(folder / "home"),
        "MPLCONFIGDIR": matplotlib.get_cachedir(),  # or every worker would look for all fonts again
        "TMPDIR": str(folder / "tmp"),
        "RAY_TMPDIR": str(folder / "ray"),
    }
    command = [sys.executable, "-m", "semscale", "sweep", str(folder / "study.yaml"), "--out", "runs/run"]
    done = subprocess.run(
        [*command, "--tracking-uri", tracking],
        cwd=folder / "work",
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    left = [folder / name for name in ("home", "tmp", "ray", "work")]
    store = Path(os.environ["SEMSCALE_STORE"])
    return Remains(
        done.returncode, done.stdout + done.stderr, folder / "work" / "runs" / "run", [*left, store, *others]
    )


@pytest.mark.faults
def test_nothing_that_a_whole_run_leaves_behind_has_a_secret(
    mini_server: str,
    web: str,
    short_folder: Path,
    tmp_path: Path,
    mlflow_process: Callable[[str, str, Path], AbstractContextManager[str]],
) -> None:
    with mlflow_process("server", f"sqlite:///{tmp_path / 'server.db'}", tmp_path) as address:
        uri = address.replace("://", f"://ann:{TRACKING}@")
        remains = carry_out(study(web, mini_server), short_folder, uri, [tmp_path])
    assert remains.status == 0, remains.said
    assert (remains.run / "report.html").exists()
    assert "bad.png" in (remains.run / "quarantine.csv").read_text()
    assert list((short_folder / "ray").rglob("*.log")), "Ray's session is among what is searched"
    assert remains.leaks() == {}
    assert f"http://***@{address.removeprefix('http://')}" in remains.said


def test_a_run_that_fails_says_why_without_secrets(web: str, short_folder: Path) -> None:
    gone = study(web, "grpc://127.0.0.1:9", datasets=[f"zip:http://ann:{DATASET}@{web}/private/x.zip?sig={SIGNATURE}"])
    remains = carry_out(gone, short_folder, f"http://ann:{TRACKING}@127.0.0.1:9", [])
    assert remains.status == 1
    assert "127.0.0.1" in remains.said
    assert "Traceback" not in remains.said
    assert remains.leaks() == {}


@pytest.mark.parametrize(
    "uri",
    [
        f"http://ann:{TRACKING}@127.0.0.1:9",
        f"postgresql://ann:{TRACKING}@127.0.0.1:9/mlflow",
        f"mysql://ann:{TRACKING}@127.0.0.1:9/mlflow?ssl_key={SIGNATURE}",
        f"nodatabase://ann:{TRACKING}@127.0.0.1:9/mlflow",
        f"sqlite:////proc/nowhere/{'x' * 300}/mlflow.db?key={SIGNATURE}",
        f"http://ann:{TRACKING}@[broken",
    ],
)
def test_a_tracking_store_that_cannot_be_opened_keeps_its_password(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SemscaleError, match="MLflow's store cannot be opened") as caught:
        open_store(uri, "semscale", tmp_path)
    assert leaks(str(caught.value).encode()) == []


@pytest.mark.parametrize(
    "tree",
    [
        {"server": {"urls": [f"http://ann:{TRACKING}@gpu:1?sig={SIGNATURE}", f"grpc://ann:{TRACKING}@[gpu:1"]}},
        {
            "datasets": [
                {"spec": f"ftp://ann:{TRACKING}@host/a?sig={SIGNATURE}", "seed": "x", "limit": f"s3://a:{TRACKING}@h"}
            ]
        },
        {f"https://ann:{TRACKING}@host": 1, "store": [f"https://ann:{TRACKING}@host"]},
        {"datasets": [f"zip:https://ann:{TRACKING}@host/a?{SIGNATURE}"] * 2},
        {"tracking": {"url": f"postgresql://ann:{TRACKING}@db/x"}, "models": f"https://ann:{TRACKING}@host"},
    ],
)
def test_a_wrong_study_is_told_without_its_secrets(tree: dict[str, object]) -> None:
    with pytest.raises(SemscaleError) as caught:
        study_from(tree)
    assert leaks(str(caught.value).encode()) == []


@pytest.mark.parametrize(
    "text",
    [
        f"http://ann:{TRACKING}@host/x",
        f"http://ann:p@ss{TRACKING}@host/x",
        f"postgresql://db/x?user=ann&password={TRACKING}",
        f"postgresql+psycopg2://ann:{TRACKING}@db:5432/x?sslkey={SIGNATURE}#f",
        f"http://{TRACKING}@[broken",
    ],
)
def test_a_masked_url_has_neither_password_nor_query(text: str) -> None:
    assert leaks(mask_url(text).encode()) == []
    assert "://" in mask_url(text)


def test_a_fault_of_our_own_shows_a_traceback_without_secrets(tmp_path: Path) -> None:
    program = (
        "import sys; from semscale.cli import main\n"
        "@main.command()\n"
        "def broken():\n"
        f"    raise ZeroDivisionError('at http://ann:{TRACKING}@host/?sig={SIGNATURE} now')\n"
        "sys.argv = ['semscale', 'broken']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError: at http://***@host/?***" in done.stderr
    assert leaks(done.stderr.encode()) == []
