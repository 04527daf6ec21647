"""Checks of what points to what: selectors, ports, probes, scalers, routes."""

from collections.abc import Iterator

from tests.deploy.manifests import (
    Document,
    Documents,
    has_port,
    identity,
    matches,
    named,
    of_kind,
    workloads,
)


def selectors_match(documents: Documents) -> Iterator[str]:
    """Every selector takes at least one pod, and a controller's takes its own."""
    all_workloads = workloads(documents)
    for document in documents:
        for selector in _selectors(document):
            if not any(matches(selector, one.labels) for one in all_workloads):
                yield f"{identity(document)}: {selector} matches no pod"
    for workload in all_workloads:
        own = workload.document["spec"].get("selector")
        if own is not None and not matches(own, workload.labels):
            yield f"{workload}: its selector does not match its own pods"
        for constraint in workload.pod.get("topologySpreadConstraints", ()):
            if not matches(constraint["labelSelector"], workload.labels):
                yield f"{workload}: a topology spread constraint does not match its own pods"


def _selectors(document: Document) -> Iterator[Document]:
    spec = document.get("spec", {})
    match document["kind"]:
        case "Service":
            yield {"matchLabels": spec["selector"]}
        case "PodDisruptionBudget" | "PodMonitor":
            yield spec["selector"]
        case "NetworkPolicy":
            if spec["podSelector"]:
                yield spec["podSelector"]
            for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
                for peer in (*rule.get("from", ()), *rule.get("to", ())):
                    if "podSelector" in peer and "namespaceSelector" not in peer:
                        yield peer["podSelector"]


def ports_exist(documents: Documents) -> Iterator[str]:
    """Ports of probes, Services, monitors and policies: some container listens on each."""
    all_workloads = workloads(documents)
    for workload in all_workloads:
        for container in workload.containers:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if (port := _probed(container.get(probe, {}))) is not None:
                    own = [*container.get("ports", ())]
                    if port not in {value for one in own for value in (one["name"], one["containerPort"])}:
                        yield f"{workload}: {probe} of {container['name']}: no port {port}"
    for document in documents:
        for selector, port in _wanted_ports(document):
            for workload in all_workloads:
                if matches(selector, workload.labels) and not has_port(workload, port):
                    yield f"{identity(document)}: {workload} has no port {port}"


def _probed(probe: Document) -> str | int | None:
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if kind in probe:
            port: str | int = probe[kind]["port"]
            return port
    return None


def _wanted_ports(document: Document) -> Iterator[tuple[Document, str | int]]:
    """(label selector, port that its pods must have)."""
    spec = document.get("spec", {})
    match document["kind"]:
        case "Service":
            for port in spec["ports"]:
                yield {"matchLabels": spec["selector"]}, port.get("targetPort", port["port"])
        case "PodMonitor":
            for endpoint in spec["podMetricsEndpoints"]:
                yield spec["selector"], endpoint["port"]
        case "NetworkPolicy":
            for rule in spec.get("ingress", ()):
                for port in rule["ports"]:
                    yield spec["podSelector"], port["port"]


def containers_are_probed(documents: Documents) -> Iterator[str]:
    """Whatever runs for ever has all three probes; a StatefulSet has the Service that names its pods."""
    for workload in workloads(documents):
        if workload.kind == "Job":
            continue
        for container in workload.pod["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe not in container:
                    yield f"{workload}: {container['name']} has no {probe}"
        if workload.kind == "StatefulSet":
            governing = named(documents, "Service", workload.document["spec"]["serviceName"])
            if governing is None or governing["spec"].get("clusterIP") != "None":
                yield f"{workload}: has no headless Service {workload.document['spec']['serviceName']}"


def scalers_are_sane(documents: Documents) -> Iterator[str]:
    """Bounds in order, a target that exists, has no number of its own and no second scaler."""
    scaled = set()
    for document in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        spec, suffix = document["spec"], "s" if document["kind"] == "HorizontalPodAutoscaler" else "Count"
        low, high = (
            (spec["minReplicas"], spec["maxReplicas"])
            if suffix == "s"
            else (spec["minReplicaCount"], spec["maxReplicaCount"])
        )
        if not 1 <= low <= high:
            yield f"{identity(document)}: min {low}, max {high}"
        if not low <= spec.get("fallback", {}).get("replicas", low) <= high:
            yield f"{identity(document)}: its fallback is out of its bounds"
        # What KEDA takes for granted.
        target = {"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]}
        found = named(documents, target["kind"], target["name"])
        if found is None or found["apiVersion"] != target["apiVersion"]:
            yield f"{identity(document)}: there is no {target['kind']} {target['name']}"
        elif "replicas" in found["spec"]:
            yield f"{identity(found)}: replicas are set, and scaled too"
        if (key := (target["kind"], target["name"])) in scaled:
            yield f"{target['kind']}/{target['name']}: two autoscalers"
        scaled.add(key)


def disruptions_are_bounded(documents: Documents) -> Iterator[str]:
    """Every engine and the gateway have one budget, which lets a node be drained."""
    budgets = [*of_kind(documents, "PodDisruptionBudget")]
    for workload in workloads(documents):
        mine = [one for one in budgets if matches(one["spec"]["selector"], workload.labels)]
        if workload.kind != "Job" and workload.name != "redis" and len(mine) != 1:
            yield f"{workload}: {len(mine)} disruption budgets"
        yield from (
            f"{identity(one)}: no node could be drained"
            for one in mine
            if str(one["spec"].get("maxUnavailable", 0)) in {"0", "0%"}
        )


def routes_arrive(documents: Documents) -> Iterator[str]:
    """Every backend of an Ingress or a route is a port of a Service; every route has its listener."""
    known = {
        (service["metadata"]["name"], port[key])
        for service in of_kind(documents, "Service")
        for port in service["spec"]["ports"]
        for key in ("name", "port")
    }
    for document in of_kind(documents, "Ingress", "HTTPRoute", "GRPCRoute"):
        for backend in _backends(document):
            if backend not in known:
                yield f"{identity(document)}: no Service {backend[0]} with port {backend[1]}"
        for parent in document["spec"].get("parentRefs", ()):
            above = named(documents, "Gateway", parent["name"]) or {"spec": {"listeners": ()}}
            listeners = [one for one in above["spec"]["listeners"] if one["name"] == parent["sectionName"]]
            if not {*document["spec"]["hostnames"]} <= {one["hostname"] for one in listeners}:
                yield f"{identity(document)}: no listener {parent['sectionName']} with its hosts"


def _backends(document: Document) -> Iterator[tuple[str, str | int]]:
    spec = document["spec"]
    backends = [spec["defaultBackend"]] if "defaultBackend" in spec else []
    for rule in spec.get("rules", ()):
        backends += [path["backend"] for path in rule.get("http", {}).get("paths", ())]
    for service in (backend["service"] for backend in backends):
        yield from ((service["name"], port) for port in service["port"].values())
    for rule in spec.get("rules", ()):
        for backend in rule.get("backendRefs", ()):
            yield backend["name"], backend["port"]


def the_admin_port_is_closed(documents: Documents) -> Iterator[str]:
    """No Service is open to the outside by itself, and none leads to the gateway's admin port."""
    for service in of_kind(documents, "Service"):
        spec = service["spec"]
        if spec.get("type", "ClusterIP") != "ClusterIP" or "externalIPs" in spec:
            yield f"{identity(service)}: is open to the outside"
        for port in spec["ports"]:
            if port.get("targetPort", port["port"]) in {"admin", 8082}:
                yield f"{identity(service)}: leads to the admin port"


def the_gateway_is_asked_what_fits(documents: Documents) -> Iterator[str]:
    """A probe that restarts asks only whether it lives; monitors find metrics, under the rules' job."""
    gateway = next(one for one in workloads(documents) if one.name == "gateway")
    container = gateway.pod["containers"][0]
    for probe, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")):
        asked = container.get(f"{probe}Probe", {}).get("httpGet", {})
        if asked != {"path": path, "port": "admin"}:
            yield f"{gateway}: {probe}Probe asks {asked}"
    for monitor in of_kind(documents, "PodMonitor"):
        spec = monitor["spec"]
        if not matches(spec["selector"], gateway.labels):
            continue
        if gateway.labels.get(spec.get("jobLabel", "")) != "gateway":
            yield f"{identity(monitor)}: its job is not `gateway`, which the rules ask for"
        if [(one["port"], one.get("path")) for one in spec["podMetricsEndpoints"]] != [("admin", "/metrics")]:
            yield f"{identity(monitor)}: metrics are at /metrics of the admin port"
        if not all(one.get("honorLabels") for one in spec["podMetricsEndpoints"]):
            yield f"{identity(monitor)}: its label `endpoint` takes the place of the gateway's own"
