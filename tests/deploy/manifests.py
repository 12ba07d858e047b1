"""The files of deploy/ as the tests look at them: documents, pods, containers and pinned versions."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("local", "gpu")

Document = dict[str, Any]

_OF_THE_CLUSTER = {"Namespace"}  # kinds that lie in no namespace


def pins() -> dict[str, str]:
    """Return the versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return dict(line.lower().split("==") for line in lines)


def built(overlay: str) -> list[Document]:
    """Return the documents of an overlay, as far as kustomize is used here: resources, namespace, JSON patches."""
    documents: list[Document] = json.loads(_built(overlay))
    return documents


@cache
def _built(overlay: str) -> str:
    return json.dumps(_build(KUBERNETES / "overlays" / overlay))


def _build(folder: Path) -> list[Document]:
    recipe = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    known = {"apiVersion", "kind", "namespace", "resources", "patches"}
    assert set(recipe) <= known, f"{folder}: kustomize can do more than this test: {set(recipe) - known}"
    documents: list[Document] = []
    for name in recipe["resources"]:
        path = folder / name
        documents += _build(path) if path.is_dir() else _read(path)
    for entry in recipe.get("patches", []):
        target = entry["target"]
        hit = [n for n, d in enumerate(documents) if (d["kind"], name_of(d)) == (target["kind"], target["name"])]
        assert len(hit) == 1, f"{folder}: {target} is {len(hit)} documents"
        patch = yaml.safe_load((folder / entry["path"]).read_text())
        documents[hit[0]] = jsonpatch.apply_patch(documents[hit[0]], patch)
    for document in documents:
        if document["kind"] not in _OF_THE_CLUSTER:
            document["metadata"]["namespace"] = recipe["namespace"]
    return documents


def _read(path: Path) -> list[Document]:
    # what anchors share is one object in Python, and a patch of one place would change the others
    return [json.loads(json.dumps(document)) for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def name_of(document: Document) -> str:
    """Return the name of a Kubernetes document."""
    name: str = document["metadata"]["name"]
    return name


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    """Return the documents of a kind by name."""
    return {name_of(document): document for document in documents if document["kind"] == kind}


def pod_templates(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Yield every pod template with a title."""
    for document in documents:
        title, spec = f"{document['kind']} {name_of(document)}", document.get("spec", {})
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield title, spec["template"]
        elif document["kind"] == "RayCluster":
            yield f"{title} head", spec["headGroupSpec"]["template"]
            for group in spec["workerGroupSpecs"]:
                yield f"{title} {group['groupName']}", group["template"]
        elif document["kind"] == "RayJob":
            yield title, spec["submitterPodTemplate"]


def strings(tree: Any) -> Iterator[str]:
    """Yield every text in a tree of YAML."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from strings(value)
    elif isinstance(tree, str):
        yield tree


def images(text: str) -> set[str]:
    """Return what stands as `image:` or FROM in a file."""
    return set(re.findall(r"(?:^FROM|image:)\s+[\"']?([^\s\"'}]+)", text, flags=re.MULTILINE))


def check_entry_point(words: list[str]) -> None:
    """Assert that what a job runs is `python ray_jobs/NAME.py OPTIONS`, here or in the image, maybe within a shell."""
    from semscale.cli import main

    if words[:2] == ["bash", "-c"]:
        words = shlex.split(re.sub(r"\$\(.*?\)", "", words[2]))
    assert words[0] == "python", words
    script = Path(words[1].removeprefix("/home/ray/semscale/"))
    assert script.parent == Path("ray_jobs")
    if (ROOT / "ray_jobs").exists():
        assert (ROOT / script).exists(), script
        main.commands[script.stem].make_context(script.stem, words[2:])
