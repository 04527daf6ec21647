"""What NetworkPolicies allow, as a set of arrows (from, to, port)."""

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.deploy.manifests import Document, Documents, matches, of_kind, workloads

NAME = "app.kubernetes.io/name"
Pods = Mapping[str, Mapping[str, str]]
"""The labels of each kind of pod, by name."""


class Arrow(NamedTuple):
    """`target` may be called by `source` at `port`, such as `6379/TCP`; `any` where everything is allowed."""

    source: str
    target: str
    port: str


OUTSIDE = {
    (json.dumps({"matchLabels": {"inferway/clients": "allowed"}}), None): "clients",
    (
        json.dumps({"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}),
        json.dumps({"matchLabels": {NAME: "prometheus"}}),
    ): "prometheus",
    (
        json.dumps({"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}),
        json.dumps({"matchLabels": {NAME: "opentelemetry-collector"}}),
    ): "collector",
    (
        json.dumps({"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}),
        json.dumps({"matchLabels": {"k8s-app": "kube-dns"}}),
    ): "dns",
}
"""What stands outside of the namespace, by the selectors of its namespace and its pods."""


def arrows(documents: Documents) -> tuple[set[Arrow], set[Arrow]]:
    """Arrows that are allowed, and those inside the namespace that only one side allows."""
    pods = {one.labels[NAME]: one.labels for one in workloads(documents)}
    incoming = {arrow for name, labels in pods.items() for arrow in _incoming(documents, name, labels, pods)}
    outgoing = {arrow for name, labels in pods.items() for arrow in _outgoing(documents, name, labels, pods)}
    inside = {arrow for arrow in incoming | outgoing if {arrow.source, arrow.target} <= pods.keys()}
    allowed = (incoming & outgoing) | ((incoming | outgoing) - inside)
    return allowed, inside - allowed


def _incoming(documents: Documents, name: str, labels: Mapping[str, str], pods: Pods) -> Iterator[Arrow]:
    rules = _rules(documents, labels, "Ingress")
    if rules is None:
        yield Arrow("any", name, "any")
    for rule in rules or ():
        for peer in _peers(rule.get("from"), pods):
            yield from (Arrow(peer, name, port) for port in _ports(rule))


def _outgoing(documents: Documents, name: str, labels: Mapping[str, str], pods: Pods) -> Iterator[Arrow]:
    rules = _rules(documents, labels, "Egress")
    if rules is None:
        yield Arrow(name, "any", "any")
    for rule in rules or ():
        for peer in _peers(rule.get("to"), pods):
            yield from (Arrow(name, peer, port) for port in _ports(rule))


def _rules(documents: Documents, labels: Mapping[str, str], direction: str) -> list[Document] | None:
    """The rules that hold for a pod; None where no policy isolates it."""
    specs = [
        document["spec"]
        for document in of_kind(documents, "NetworkPolicy")
        if direction in document["spec"]["policyTypes"] and matches(document["spec"]["podSelector"], labels)
    ]
    return [rule for spec in specs for rule in spec.get(direction.lower(), ())] if specs else None


def _peers(peers: list[Document] | None, pods: Pods) -> Iterator[str]:
    if not peers:
        yield "any"
    for peer in peers or ():
        if "ipBlock" in peer:
            yield peer["ipBlock"]["cidr"]
        elif "namespaceSelector" in peer:
            key = tuple(
                json.dumps(peer[part]) if part in peer else None
                for part in ("namespaceSelector", "podSelector")
            )
            yield OUTSIDE.get((str(key[0]), key[1]), f"unknown {key}")
        else:
            yield from (name for name, labels in pods.items() if matches(peer["podSelector"], labels))


def _ports(rule: Document) -> list[str]:
    return [f"{one['port']}/{one.get('protocol', 'TCP')}" for one in rule.get("ports", ())] or ["any"]
