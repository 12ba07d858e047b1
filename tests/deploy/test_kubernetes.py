"""The Kubernetes manifests: valid by Kubernetes' own schemas and KubeRay's fields, whole, and closed by default."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kuberay import SCHEMAS
from manifests import KUBERNETES, OVERLAYS, Document, built, check_entry_point, name_of, of_kind, pod_templates, strings

from semscale.cli import main
from semscale.config import study_from

# made by the commands of deploy/README.md, and known to no file
SECRETS: dict[str, set[str] | None] = {
    "clip-server": {"token"},
    "postgres": {"password"},
    "ray": {"auth_token"},
    "object-store": None,
}
# of pods that run; the newest that the library knows, and one that is old
VERSIONS = ("1.30", "1.37")


@pytest.fixture(params=OVERLAYS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return built(request.param)


def containers(documents: list[Document]) -> Iterator[tuple[str, dict[str, Any]]]:
    for title, template in pod_templates(documents):
        for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]:
            yield f"{title}: {container['name']}", container


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_builds_the_same(overlay: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here; the other tests build the overlays by themselves")
    folder = KUBERNETES / "overlays" / overlay
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=True, timeout=60)
    theirs = {(d["kind"], name_of(d)): d for d in yaml.safe_load_all(done.stdout)}
    assert theirs == {(d["kind"], name_of(d)): d for d in built(overlay)}


@pytest.mark.parametrize("version", VERSIONS)
def test_documents_are_valid_in_kubernetes(documents: list[Document], version: str) -> None:
    ours = [document for document in documents if not document["apiVersion"].startswith("ray.io/")]
    assert len(ours) > 15
    for document in ours:
        kubernetes_validate.validate(document, version, strict=True)


def test_an_unknown_field_would_be_seen(documents: list[Document]) -> None:
    deployment = of_kind(documents, "Deployment")["clip-server"]
    deployment["spec"]["template"]["spec"]["containers"][0]["reediness"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_ray_documents_have_fields_that_kuberay_knows(documents: list[Document]) -> None:
    found = [document for document in documents if document["apiVersion"].startswith("ray.io/")]
    assert {document["kind"] for document in found} == set(SCHEMAS)
    for document in found:
        jsonschema.validate(document, SCHEMAS[document["kind"]])
    for _, template in pod_templates(found):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)


def test_pods_are_confined(documents: list[Document]) -> None:
    templates = list(pod_templates(documents))
    assert len(templates) == 6
    for title, template in templates:
        spec, security = template["spec"], template["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True, title
        assert security["runAsUser"] > 0, title
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, title
        assert spec["automountServiceAccountToken"] is False, title
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), title
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), title
    for title, container in containers(documents):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, title
        assert security["readOnlyRootFilesystem"] is True, title
        assert security["capabilities"] == {"drop": ["ALL"]}, title
        assert "privileged" not in security, title
        assert all("hostPort" not in port for port in container.get("ports", [])), title
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), title
        assert {"cpu", "memory"} <= set(container["resources"]["limits"]), title
        assert re.search(r":[\w.-]*\d", container["image"]), f"{title}: an image without a version"


def test_a_read_only_container_has_room_to_write(documents: list[Document]) -> None:
    for title, container in containers(documents):
        mounts = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert "/tmp" in mounts, title
        if container["image"].startswith("semscale-") and "submit" not in title:
            assert mounts & {"/home/ray/.cache", "/home/semscale/.cache"}, f"{title}: jina makes a folder there"


def test_nothing_secret_stands_in_a_manifest(documents: list[Document]) -> None:
    assert not of_kind(documents, "Secret")
    for title, container in containers(documents):
        for variable in container.get("env", []):
            secret = re.search(r"TOKEN|PASSWORD|SECRET|KEY", variable["name"])
            if secret and not variable["name"].endswith("_FILE"):
                assert "valueFrom" in variable, f"{title}: {variable['name']}"
    for text in strings(documents):
        assert not re.search(r"://[^/@\s]*:[^/@\s]+@", text), f"a password in {text}"


def test_secrets_are_those_that_the_readme_makes(documents: list[Document]) -> None:
    used: dict[str, set[str]] = {}
    for _, template in pod_templates(documents):
        for volume in template["spec"].get("volumes", []):
            if "secret" in volume:
                keys = {item["key"] for item in volume["secret"]["items"]}
                used.setdefault(volume["secret"]["secretName"], set()).update(keys)
                assert not volume["secret"]["defaultMode"] & 0o022, "semscale refuses a token that others can change"
    for _, container in containers(documents):
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                used.setdefault(reference["name"], set()).add(reference["key"])
        for source in container.get("envFrom", []):
            used.setdefault(source["secretRef"]["name"], set())
    (cluster,) = of_kind(documents, "RayCluster").values()
    used.setdefault(cluster["spec"]["authOptions"]["secretName"], set()).add("auth_token")
    assert set(used) <= set(SECRETS)
    for name, keys in used.items():
        assert keys <= (SECRETS[name] or set()), name


def test_what_is_referred_to_exists(documents: list[Document]) -> None:
    accounts, maps = of_kind(documents, "ServiceAccount"), of_kind(documents, "ConfigMap")
    claims = of_kind(documents, "PersistentVolumeClaim")
    for title, template in pod_templates(documents):
        spec = template["spec"]
        assert spec["serviceAccountName"] in accounts, title
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps, title
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, title
        if title.startswith("StatefulSet"):
            volumes |= {
                name_of(claim): claim
                for claim in of_kind(documents, "StatefulSet")["postgres"]["spec"]["volumeClaimTemplates"]
            }
        mounted = [mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]]
        assert set(mounted) == set(volumes), title
    for account in accounts.values():
        assert account["automountServiceAccountToken"] is False
    (job,), (cluster,) = of_kind(documents, "RayJob").values(), of_kind(documents, "RayCluster").values()
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": name_of(cluster)}
    target = of_kind(documents, "HorizontalPodAutoscaler")["clip-server"]["spec"]["scaleTargetRef"]
    assert target["name"] in of_kind(documents, target["kind"])
    assert "replicas" not in of_kind(documents, "Deployment")["clip-server"]["spec"], "it would undo the autoscaler's"


def test_services_and_budgets_select_pods_that_have_their_ports(documents: list[Document]) -> None:
    pods = {tuple(sorted(t["metadata"]["labels"].items())): t for _, t in pod_templates(documents)}
    services = of_kind(documents, "Service")
    assert set(services) == {"clip-server", "mlflow", "postgres"}
    for name, service in services.items():
        pod = pods[tuple(sorted(service["spec"]["selector"].items()))]
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"], name
    assert services["clip-server"]["spec"]["clusterIP"] == "None", "its name must resolve to every server"
    budget = of_kind(documents, "PodDisruptionBudget")["clip-server"]["spec"]["selector"]["matchLabels"]
    assert tuple(sorted(budget.items())) in pods


def test_the_network_is_closed_but_for_what_is_needed(documents: list[Document]) -> None:
    policies = of_kind(documents, "NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    names = {template["metadata"]["labels"]["app.kubernetes.io/name"] for _, template in pod_templates(documents)}
    into = {}
    for name, policy in policies.items():
        label = policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name")
        assert label is None or label in names, name
        for rule in policy["spec"].get("ingress", []):
            assert rule.get("from"), f"{name} lets everybody in"
            for peer in rule["from"]:
                into.setdefault(label, set()).add(peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"])
    assert into == {
        "ray": {"ray", "kuberay-operator"},
        "clip-server": {"ray"},
        "mlflow": {"ray"},
        "postgres": {"mlflow"},
    }
    blocks = [
        peer["ipBlock"]
        for p in policies.values()
        for rule in p["spec"].get("egress", [])
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    assert all("169.254.0.0/16" in block["except"] for block in blocks), (
        "the cloud's metadata service gives rights away"
    )


def test_servers_and_probes_are_commands_of_this_version(documents: list[Document]) -> None:
    container = of_kind(documents, "Deployment")["clip-server"]["spec"]["template"]["spec"]["containers"][0]
    lines = [["semscale", *container["args"]]]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = container[probe]["exec"]["command"]
        assert container[probe]["timeoutSeconds"] > float(command[command.index("--timeout") + 1])
        lines.append(command)
    for semscale, name, *words in lines:
        assert semscale == "semscale"
        assert main.commands[name].make_context(name, words)
    assert {line[1] for line in lines} == {"serve", "health"}
    check_entry_point(shlex.split(of_kind(documents, "RayJob")["sweep"]["spec"]["entrypoint"]))


def test_the_studies_are_valid_and_name_services_that_are_there(documents: list[Document]) -> None:
    study = study_from(yaml.safe_load(of_kind(documents, "ConfigMap")["study"]["data"]["study.yaml"]))
    services = of_kind(documents, "Service")
    for url in [*study.server.urls, study.tracking.uri or ""]:
        host, port = re.fullmatch(r"\w+://([\w-]+):(\d+)", url).groups()  # type: ignore[union-attr]
        assert int(port) in {entry["port"] for entry in services[host]["spec"]["ports"]}
    server = of_kind(documents, "Deployment")["clip-server"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert study.models == (server[server.index("--model") + 1],)
    hosts = [arg for arg in strings(of_kind(documents, "Deployment")["mlflow"]) if arg.startswith("--allowed-hosts=")]
    assert (study.tracking.uri or "").removeprefix("http://") in hosts[0].removeprefix("--allowed-hosts=").split(",")
