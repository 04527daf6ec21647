"""Checks of names: every object is in our namespace, and what is named is there."""

import re
from collections.abc import Iterator
from typing import Any

from tests.deploy.manifests import Document, Documents, Workload, identity, named, of_kind, texts, workloads

NAMESPACE = "inferway"
SECRETS_OF_THE_USER = {
    "inferway-keys": {"keys.yaml"},
    "inferway-redis": {"password", "url"},
    "inferway-tls": {"tls.crt", "tls.key"},
    "model-store": {"RCLONE_CONFIG_STORE_ACCESS_KEY_ID", "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY"},
}
"""What no manifest makes: deploy/k8s/README.md says how, for each."""
CLUSTER_WIDE = {"Namespace"}
CONFIGURED = re.compile(r"/etc/[\w.-]+/[\w.-]+")
"""A file that comes from a ConfigMap or a Secret: nothing else is mounted below /etc."""


def everything_is_in_the_namespace(documents: Documents) -> Iterator[str]:
    """In ours, once, and marked as a part of the whole."""
    seen = set()
    for document in documents:
        name = identity(document)
        if name in seen:
            yield f"{name}: twice"
        seen.add(name)
        if document["kind"] not in CLUSTER_WIDE and document["metadata"].get("namespace") != NAMESPACE:
            yield f"{name}: not in namespace {NAMESPACE}"


def references_resolve(documents: Documents) -> Iterator[str]:
    """Every ConfigMap, Secret, claim, account and runtime that is named is there, with the key asked for."""
    known = {
        (document["kind"], document["metadata"]["name"]): {*document.get("data", {})}
        for document in documents
    }
    known |= {("Secret", name): keys for name, keys in SECRETS_OF_THE_USER.items()}
    for owner, kind, name, key in _references(documents):
        if (kind, name) not in known:
            yield f"{owner}: there is no {kind} {name}"
        elif key is not None and key not in known[kind, name]:
            yield f"{owner}: {kind} {name} has no {key}"


def _references(documents: Documents) -> Iterator[tuple[str, str, str, str | None]]:
    """(who, kind, name, key) of everything that is named."""
    for workload in workloads(documents):
        yield str(workload), "ServiceAccount", workload.pod.get("serviceAccountName", "default"), None
        for volume in workload.pod.get("volumes", ()):
            for part, kind, field in (
                ("configMap", "ConfigMap", "name"),
                ("secret", "Secret", "secretName"),
                ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
            ):
                if part in volume:
                    yield str(workload), kind, volume[part][field], None
        yield from _environment(workload)
    for document in of_kind(documents, "InferenceService"):
        yield identity(document), "ServingRuntime", document["spec"]["predictor"]["model"]["runtime"], None
    for document in of_kind(documents, "Ingress"):
        yield from (
            (identity(document), "Secret", one["secretName"], None) for one in document["spec"]["tls"]
        )
    for document in of_kind(documents, "Gateway"):
        for listener in document["spec"]["listeners"]:
            for one in listener["tls"]["certificateRefs"]:
                yield identity(document), "Secret", one["name"], None


def _environment(workload: Workload) -> Iterator[tuple[str, str, str, str | None]]:
    for container in workload.containers:
        for source in container.get("envFrom", ()):
            for part, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if part in source:
                    yield str(workload), kind, source[part]["name"], None
        for variable in container.get("env", ()):
            origin: dict[str, Any] = variable.get("valueFrom", {})
            for part, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if part in origin:
                    yield str(workload), kind, origin[part]["name"], origin[part]["key"]


def files_are_mounted(documents: Documents) -> Iterator[str]:
    """Every file of /etc that a container names is mounted there; every key that a volume names exists."""
    for workload in workloads(documents):
        volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", ())}
        files = {name: _files(documents, volume) for name, volume in volumes.items()}
        for container in workload.containers:
            mounts = {one["mountPath"]: files.get(one["name"]) for one in container.get("volumeMounts", ())}
            there = {f"{path}/{name}" for path, names in mounts.items() for name in names or ()}
            said = " ".join(texts(container))
            for mount in container.get("volumeMounts", ()):
                said += _configuration(documents, volumes.get(mount["name"], {}))
            for path in sorted({*CONFIGURED.findall(said)} - there):
                yield f"{workload}: container {container['name']}: nothing is mounted at {path}"
        for name, volume in volumes.items():
            source = volume.get("configMap") or volume.get("secret") or {}
            for item in source.get("items", ()):
                if item["key"] not in _keys(documents, volume):
                    yield f"{workload}: volume {name}: there is no key {item['key']}"


def _keys(documents: Documents, volume: Document) -> set[str]:
    """The keys of a volume's ConfigMap or Secret."""
    if "configMap" in volume:
        return {*(named(documents, "ConfigMap", volume["configMap"]["name"]) or {}).get("data", ())}
    return SECRETS_OF_THE_USER.get(volume.get("secret", {}).get("secretName"), set())


def _files(documents: Documents, volume: Document) -> set[str]:
    """The names of a volume's files, if it is a ConfigMap or a Secret."""
    source = volume.get("configMap") or volume.get("secret") or {}
    if "items" in source:
        return {item["path"] for item in source["items"]}
    return _keys(documents, volume)


def _configuration(documents: Documents, volume: Document) -> str:
    """What stands in a volume's ConfigMap."""
    name = volume.get("configMap", {}).get("name", "")
    return " ".join(texts((named(documents, "ConfigMap", name) or {}).get("data", {})))
