"""Checks of pods: images, resources, Pod Security's level `restricted` and more, plain secrets."""

import re
from collections.abc import Iterator
from decimal import Decimal

import gateway
from tests.deploy.manifests import Document, Documents, Workload, identity, of_kind, texts, workloads

UNITS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    **{f"{letter}i": Decimal(1024**power) for power, letter in enumerate("KMGT", 1)},
}
RESTRICTED_VOLUMES = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
IMAGES = {
    *(f"inferway/{name}" for name in ("gateway", "models", "torchserve", "triton", "tfserving")),
    "redis",
    "rclone/rclone",
}
"""All that may run. One more is a decision: whose is it, and who updates it?"""
PINNED = re.compile(r"v?\d+\.\d+[\w.-]*")
SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|PASS$|PWD|TOKEN|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|AUTH$", re.IGNORECASE
)
SECRET_TEXT = re.compile(
    r"://[^/\s@]*:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(?:password|token|secret)\w*(?<!_file):\s*[^\s,}]",
    re.IGNORECASE,
)
"""An address with a password, a private key, a setting."""
SECRET_ARGUMENT = re.compile(r"(?:requirepass|--?a|--\w*auth|--\w*pass\w*|--\w*token)[ =](?!\$\()\S")
"""One that is not read from a file."""


def quantity(text: str | int) -> Decimal:
    """A Kubernetes quantity as a number.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", str(text))
    if found is None or found[2] not in UNITS:
        raise ValueError(f"{text} is no quantity")
    return Decimal(found[1]) * UNITS[found[2]]


def images_are_pinned(documents: Documents) -> Iterator[str]:
    """Each one that is known, by a version; our own by the gateway's."""
    for workload, container in _containers(documents):
        image = container.get("image", "")
        name, _, tag = image.rpartition(":")
        if name not in IMAGES:
            yield f"{workload}: image {image} is not one of those that may run"
        elif not PINNED.fullmatch(tag):
            yield f"{workload}: image {image} is not pinned to a version"
        elif image.startswith("inferway/") and tag != gateway.__version__:
            yield f"{workload}: image {image} is not of version {gateway.__version__}"


def resources_are_limited(documents: Documents) -> Iterator[str]:
    """CPU and memory are requested and limited, no request is over its limit; of a GPU both are equal."""
    for workload, container in _containers(documents):
        place = f"{workload}: container {container['name']}"
        asked, limit = (container.get("resources", {}).get(part, {}) for part in ("requests", "limits"))
        for name in ("cpu", "memory"):
            for part, values in (("request", asked), ("limit", limit)):
                if name not in values:
                    yield f"{place}: no {part} of {name}"
        for name in asked.keys() & limit.keys():
            if quantity(asked[name]) > quantity(limit[name]):
                yield f"{place}: requests {asked[name]} of {name}, over its limit {limit[name]}"
        for name in (asked.keys() | limit.keys()) - {"cpu", "memory"}:
            if asked.get(name) != limit.get(name):
                yield f"{place}: of {name} the request is not the limit"


def pods_are_restricted(documents: Documents) -> Iterator[str]:
    """Pod Security `restricted`, and: a fixed user, a read-only root, no token, no service links."""
    for workload in workloads(documents):
        pod, context = workload.pod, workload.pod.get("securityContext", {})
        wanted = {
            "runAsNonRoot": context.get("runAsNonRoot") is True,
            "runAsUser": context.get("runAsUser", 0) > 0,
            "seccompProfile": context.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "automountServiceAccountToken: false": pod.get("automountServiceAccountToken") is False,
            "enableServiceLinks: false": pod.get("enableServiceLinks") is False,
            "serviceAccountName": pod.get("serviceAccountName", "default") != "default",
            "no host namespace": not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
        }
        yield from (f"{workload}: lacks {rule}" for rule, is_kept in wanted.items() if not is_kept)
        for volume in pod.get("volumes", ()):
            if kinds := volume.keys() - {"name"} - RESTRICTED_VOLUMES:
                yield f"{workload}: volume {volume['name']} is {', '.join(kinds)}"
        for container in workload.containers:
            yield from (f"{workload}: container {container['name']}: {what}" for what in _freedoms(container))
    for account in of_kind(documents, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{identity(account)}: its token is mounted"
    for namespace in of_kind(documents, "Namespace"):
        if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{identity(namespace)}: does not enforce Pod Security restricted"


def _freedoms(container: Document) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may escalate privileges"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "may write its root file system"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    if context.keys() - {"allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"}:
        yield "says more on its own security than the pod may know"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield "takes a port of the node"


def volumes_are_used(documents: Documents) -> Iterator[str]:
    """Every mount has its volume, every volume a mount, and no path two."""
    for workload in workloads(documents):
        volumes = {volume["name"] for volume in workload.pod.get("volumes", ())}
        mounted = set()
        for container in workload.containers:
            mounts = container.get("volumeMounts", ())
            mounted |= {mount["name"] for mount in mounts}
            paths = [mount["mountPath"] for mount in mounts]
            if len(paths) > len(set(paths)):
                yield f"{workload}: container {container['name']} mounts two volumes at one path"
        yield from (f"{workload}: no volume {name}" for name in sorted(mounted - volumes))
        yield from (f"{workload}: volume {name} is mounted nowhere" for name in sorted(volumes - mounted))


def no_secret_is_in_plain_text(documents: Documents) -> Iterator[str]:
    """No Secret with content, no password in a text or an argument, no variable that is named like one."""
    for document in documents:
        if document["kind"] == "Secret" and (document.get("data") or document.get("stringData")):
            yield f"{identity(document)}: a Secret with its content"
        yield from (
            f"{identity(document)}: {text[:20]}... holds a secret"
            for text in texts(document)
            if SECRET_TEXT.search(text)
        )
        if document["kind"] == "ConfigMap":
            for key in document.get("data", {}):
                if SECRET_NAME.search(key):
                    yield f"{identity(document)}: {key} belongs in a Secret"
    for workload, container in _containers(documents):
        yield from (f"{workload}: {what}" for what in _told(container))


def _told(container: Document) -> Iterator[str]:
    """Secrets among a container's arguments and variables."""
    if SECRET_ARGUMENT.search(" ".join([*container.get("command", ()), *container.get("args", ())])):
        yield f"an argument of {container['name']} holds a secret"
    for variable in container.get("env", ()):
        if SECRET_NAME.search(variable["name"]) and "value" in variable:
            yield f"{variable['name']} stands there in plain text"
        if ("value" in variable) is ("valueFrom" in variable):
            yield f"{variable['name']} needs value or valueFrom, and not both"


def _containers(documents: Documents) -> Iterator[tuple[Workload, Document]]:
    for workload in workloads(documents):
        for container in workload.containers:
            yield workload, container
