"""What the checks know of manifests: documents, and the pods that they lead to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
Documents = list[Document]

CONTROLLERS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that makes pods.

    Attributes:
        kind: Deployment, StatefulSet, Job or InferenceService.
        name: its own.
        labels: of its pods.
        pod: their spec.
        document: the whole.
    """

    kind: str
    name: str
    labels: Mapping[str, str]
    pod: Document
    document: Document

    @property
    def containers(self) -> list[Document]:
        """All of a pod's containers, those that run first included."""
        return [*self.pod.get("initContainers", ()), *self.pod["containers"]]

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def of_kind(documents: Documents, *kinds: str) -> Iterator[Document]:
    """The documents of these kinds."""
    return (document for document in documents if document["kind"] in kinds)


def named(documents: Documents, kind: str, name: str) -> Document | None:
    """The document of this kind and name."""
    return next((one for one in of_kind(documents, kind) if one["metadata"]["name"] == name), None)


def identity(document: Document) -> str:
    """For a message: kind and name."""
    return f"{document['kind']}/{document['metadata']['name']}"


def workloads(documents: Documents) -> list[Workload]:
    """Everything that makes pods, KServe's InferenceServices included."""
    made = []
    for document in of_kind(documents, *CONTROLLERS):
        template = document["spec"]["template"]
        labels = template["metadata"]["labels"]
        made.append(
            Workload(document["kind"], document["metadata"]["name"], labels, template["spec"], document)
        )
    for document in of_kind(documents, "InferenceService"):
        predictor = document["spec"]["predictor"]
        runtime = named(documents, "ServingRuntime", predictor["model"]["runtime"])
        below = runtime["spec"] if runtime else {"containers": []}
        pod = {**below, **predictor}
        made.append(
            Workload("InferenceService", document["metadata"]["name"], predictor["labels"], pod, document)
        )
    return made


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector (matchLabels, matchExpressions with In or Exists) takes these labels."""
    for expression in selector.get("matchExpressions", ()):
        key, operator = expression["key"], expression["operator"]
        if operator not in {"In", "Exists"}:
            raise ValueError(f"operator {operator} is not known here")
        if key not in labels or (operator == "In" and labels[key] not in expression["values"]):
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def ports(workload: Workload) -> dict[str, int]:
    """The ports of a workload's containers by name."""
    return {
        port["name"]: port["containerPort"]
        for one in workload.pod["containers"]
        for port in one.get("ports", ())
    }


def has_port(workload: Workload, port: str | int) -> bool:
    """Whether a container listens on it, by name or number."""
    return port in ports(workload) or port in ports(workload).values()


def services(documents: Documents) -> dict[str, dict[int, list[Workload]]]:
    """Every Service: its ports, and the workloads behind; those that KServe makes included."""
    all_workloads = workloads(documents)
    found = {}
    for document in of_kind(documents, "Service"):
        behind = [
            one for one in all_workloads if matches({"matchLabels": document["spec"]["selector"]}, one.labels)
        ]
        found[document["metadata"]["name"]] = {port["port"]: behind for port in document["spec"]["ports"]}
    for workload in all_workloads:
        if workload.kind == "InferenceService":
            first, *others = ports(workload).values()
            found[f"{workload.name}-predictor"] = {80: [workload], **{port: [workload] for port in others}}
            del first
    return found


def texts(value: Any) -> Iterator[str]:
    """Every text in a document, or in a part of one."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value
