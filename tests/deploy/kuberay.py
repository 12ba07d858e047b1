"""The fields of KubeRay's `ray.io/v1` that deploy/ uses, after its API reference (1.6); pods are Kubernetes' own.

Nothing may stand in a manifest that does not stand here: an API server drops fields that it does not know without a
word. So a new field is looked up first.
"""

from __future__ import annotations

from typing import Any

_TEMPLATE: dict[str, Any] = {"type": "object", "required": ["spec"]}
_START_PARAMS = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_METADATA = _object(
    ["name"],
    name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 50},
    namespace={"type": "string"},
    labels={"type": "object", "additionalProperties": {"type": "string"}},
)

RAY_CLUSTER_SPEC = _object(
    ["headGroupSpec"],
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=_object(["mode"], mode={"enum": ["disabled", "token"]}, secretName={"type": "string"}),
    headGroupSpec=_object(
        ["template"],
        rayStartParams=_START_PARAMS,
        serviceType={"enum": ["ClusterIP"]},
        template=_TEMPLATE,
    ),
    workerGroupSpecs={
        "type": "array",
        "items": _object(
            ["groupName", "template", "minReplicas", "maxReplicas"],
            groupName={"type": "string", "pattern": "^[a-z0-9-]+$"},
            replicas=_COUNT,
            minReplicas=_COUNT,
            maxReplicas=_COUNT,
            rayStartParams=_START_PARAMS,
            template=_TEMPLATE,
        ),
    },
)

RAY_CLUSTER = _object(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayCluster"},
    metadata=_METADATA,
    spec=RAY_CLUSTER_SPEC,
)

# with clusterSelector neither backoffLimit, suspend nor shutdownAfterJobFinishes are allowed
RAY_JOB = _object(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=_METADATA,
    spec=_object(
        ["entrypoint", "clusterSelector"],
        clusterSelector=_object(["ray.io/cluster"], **{"ray.io/cluster": {"type": "string"}}),
        entrypoint={"type": "string"},
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        submitterPodTemplate=_TEMPLATE,
    ),
)

SCHEMAS = {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB}
