"""Checks of names that an API server refuses and no schema knows: too long, of a wrong form, there twice."""

import re
from collections.abc import Iterator

from tests.deploy.manifests import Documents, identity, workloads

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABEL_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1035's, for what becomes a name in DNS."""
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?")
PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")


def names_are_accepted(documents: Documents) -> Iterator[str]:
    """Of objects, labels and ports; and no two containers, ports or variables of a pod have one name."""
    for document in documents:
        name, labels = document["metadata"]["name"], document["metadata"].get("labels", {})
        form = LABEL_NAME if document["kind"] in {"Service", "StatefulSet", "Namespace"} else NAME
        if not form.fullmatch(name):
            yield f"{identity(document)}: {name} is no name"
        yield from (
            f"{identity(document)}: {value} is no value of a label"
            for value in labels.values()
            if not LABEL_VALUE.fullmatch(value)
        )
    for workload in workloads(documents):
        yield from (f"{workload}: two containers {name}" for name in _twice(workload.containers))
        for container in workload.containers:
            place = f"{workload}: container {container['name']}"
            ports = container.get("ports", [])
            yield from (
                f"{place}: {one['name']} is no name of a port"
                for one in ports
                if not PORT_NAME.fullmatch(one["name"])
            )
            for part in (ports, container.get("env", [])):
                yield from (f"{place}: {name} twice" for name in _twice(part))


def _twice(named: list[dict[str, str]]) -> list[str]:
    names = [one["name"] for one in named]
    return sorted({name for name in names if names.count(name) > 1})
