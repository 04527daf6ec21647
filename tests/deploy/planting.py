"""How a fault is put into a rendering."""

from collections.abc import Callable
from typing import Any

from tests.deploy.checks import Check
from tests.deploy.manifests import Document, Documents, named

Plant = Callable[[Documents], Any]


def the(documents: Documents, kind: str, name: str) -> Document:
    """One document, to be spoilt."""
    found = named(documents, kind, name)
    assert found is not None
    return found


def pod(documents: Documents, name: str = "gateway") -> Document:
    kind = "Deployment" if name == "gateway" else "StatefulSet"
    spec: Document = the(documents, kind, name)["spec"]["template"]["spec"]
    return spec


def container(documents: Documents, name: str = "gateway") -> Document:
    first: Document = pod(documents, name)["containers"][0]
    return first


def configuration_of(documents: Documents, workload: str = "gateway") -> Document:
    volumes = pod(documents, workload)["volumes"]
    name = next(volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
    data: Document = the(documents, "ConfigMap", name)["data"]
    return data


def rewrite(documents: Documents, old: str, new: str) -> None:
    data = configuration_of(documents)
    assert old in data["inferway.yaml"]
    data["inferway.yaml"] = data["inferway.yaml"].replace(old, new)


def rename(mapping: Document, old: str, new: str) -> None:
    mapping[new] = mapping.pop(old)


Fault = tuple[str, Plant, Check]
"""A rendering, what is done to it, and the check that must say so."""
