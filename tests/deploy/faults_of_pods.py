"""Faults in the form of manifests, and in pods by themselves."""

from tests.deploy import name_checks, pod_checks, schema_checks
from tests.deploy.planting import Fault, container, pod, rename, rewrite, the

EVERYTHING = "production+ingress+managed-redis+models-pvc+tracing"

FAULTS: dict[str, Fault] = {
    "misspelt field of a container": (
        "base",
        lambda docs: rename(container(docs), "livenessProbe", "livenesProbe"),
        schema_checks.schemas_are_met,
    ),
    "misspelt field deep inside": (
        "base",
        lambda docs: rename(container(docs)["livenessProbe"], "periodSeconds", "periodSecond"),
        schema_checks.schemas_are_met,
    ),
    "misspelt field of a custom kind": (
        "base+keda",
        lambda docs: rename(the(docs, "ScaledObject", "gateway")["spec"], "maxReplicaCount", "maxReplicas"),
        schema_checks.schemas_are_met,
    ),
    "text for a number": (
        "base",
        lambda docs: the(docs, "Deployment", "gateway")["spec"].update(replicas="2"),
        schema_checks.schemas_are_met,
    ),
    "wrong apiVersion": (
        "base+autoscaling",
        lambda docs: the(docs, "HorizontalPodAutoscaler", "gateway").update(apiVersion="autoscaling/v2beta2"),
        schema_checks.schemas_are_met,
    ),
    "apiVersion of the wrong group": (
        "base",
        lambda docs: the(docs, "NetworkPolicy", "gateway").update(apiVersion="networking.example.com/v1"),
        schema_checks.schemas_are_met,
    ),
    "wrong apiVersion of a custom kind": (
        "base+pod-monitors",
        lambda docs: the(docs, "PodMonitor", "gateway").update(apiVersion="monitoring.coreos.com/v2"),
        schema_checks.schemas_are_met,
    ),
    "misspelt field of an alert": (
        "base+prometheus-rules",
        lambda docs: rename(
            the(docs, "PrometheusRule", "inferway")["spec"]["groups"][-1]["rules"][0], "for", "fo"
        ),
        schema_checks.schemas_are_met,
    ),
    "a kind that nobody knows": (
        "base",
        lambda docs: docs.append(
            {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}}
        ),
        schema_checks.schemas_are_met,
    ),
    "misspelt field inside a ServingRuntime's container": (
        "kserve",
        lambda docs: rename(
            the(docs, "ServingRuntime", "inferway-triton")["spec"]["containers"][0], "resources", "resource"
        ),
        schema_checks.schemas_are_met,
    ),
    "no limits": (
        "base",
        lambda docs: container(docs)["resources"].pop("limits"),
        pod_checks.resources_are_limited,
    ),
    "no resources in an init container": (
        "base",
        lambda docs: pod(docs, "triton")["initContainers"][0].pop("resources"),
        pod_checks.resources_are_limited,
    ),
    "no limit in a ServingRuntime": (
        "kserve",
        lambda docs: the(docs, "ServingRuntime", "inferway-triton")["spec"]["containers"][0]["resources"].pop(
            "limits"
        ),
        pod_checks.resources_are_limited,
    ),
    "request over its limit": (
        "base",
        lambda docs: container(docs)["resources"]["requests"].update(cpu="2500m"),
        pod_checks.resources_are_limited,
    ),
    "a GPU that is asked for and not limited": (
        "overlays/gpu",
        lambda docs: container(docs, "triton")["resources"]["limits"].pop("nvidia.com/gpu"),
        pod_checks.resources_are_limited,
    ),
    "an image that is not on the list": (
        "base",
        lambda docs: container(docs, "redis").update(image="example.com/redis:7.2.11"),
        pod_checks.images_are_pinned,
    ),
    "latest": (
        "base",
        lambda docs: container(docs, "redis").update(image="redis:latest"),
        pod_checks.images_are_pinned,
    ),
    "no tag": (
        "base",
        lambda docs: container(docs, "redis").update(image="redis"),
        pod_checks.images_are_pinned,
    ),
    "another version of our own image": (
        "base",
        lambda docs: container(docs).update(image="inferway/gateway:0.0.9"),
        pod_checks.images_are_pinned,
    ),
    "may run as root": (
        "base",
        lambda docs: pod(docs)["securityContext"].pop("runAsNonRoot"),
        pod_checks.pods_are_restricted,
    ),
    "root in one container": (
        "base",
        lambda docs: container(docs)["securityContext"].update(runAsUser=0),
        pod_checks.pods_are_restricted,
    ),
    "privileged": (
        "base",
        lambda docs: container(docs)["securityContext"].update(privileged=True),
        pod_checks.pods_are_restricted,
    ),
    "no seccomp profile": (
        "base",
        lambda docs: pod(docs, "redis")["securityContext"].pop("seccompProfile"),
        pod_checks.pods_are_restricted,
    ),
    "no security context in an init container": (
        "base",
        lambda docs: pod(docs, "triton")["initContainers"][0].pop("securityContext"),
        pod_checks.pods_are_restricted,
    ),
    "a capability": (
        "base",
        lambda docs: container(docs)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
        pod_checks.pods_are_restricted,
    ),
    "a folder of the node": (
        "base",
        lambda docs: pod(docs)["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
        pod_checks.pods_are_restricted,
    ),
    "the node's network": (
        "base",
        lambda docs: pod(docs).update(hostNetwork=True),
        pod_checks.pods_are_restricted,
    ),
    "a mounted token": (
        "base",
        lambda docs: pod(docs).pop("automountServiceAccountToken"),
        pod_checks.pods_are_restricted,
    ),
    "a mounted token of an account": (
        "base",
        lambda docs: the(docs, "ServiceAccount", "gateway").pop("automountServiceAccountToken"),
        pod_checks.pods_are_restricted,
    ),
    "a namespace that lets anything run": (
        "base",
        lambda docs: the(docs, "Namespace", "inferway")["metadata"]["labels"].update(
            {"pod-security.kubernetes.io/enforce": "baseline"}
        ),
        pod_checks.pods_are_restricted,
    ),
    "a volume that is not there": (
        "base",
        lambda docs: container(docs)["volumeMounts"].append({"name": "cache", "mountPath": "/cache"}),
        pod_checks.volumes_are_used,
    ),
    "a volume that nobody mounts": (
        "base",
        lambda docs: pod(docs)["volumes"].append({"name": "cache", "emptyDir": {}}),
        pod_checks.volumes_are_used,
    ),
    "a Secret in the repository": (
        "base",
        lambda docs: docs.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": "c2VjcmV0"}}
        ),
        pod_checks.no_secret_is_in_plain_text,
    ),
    "a password in a variable": (
        "base",
        lambda docs: container(docs).update(env=[{"name": "REDIS_PASSWORD", "value": "hunter2"}]),
        pod_checks.no_secret_is_in_plain_text,
    ),
    "a password in an address": (
        "base",
        lambda docs: rewrite(docs, "redis://redis", "redis://:hunter2@redis"),
        pod_checks.no_secret_is_in_plain_text,
    ),
    "a password in an argument": (
        "base",
        lambda docs: container(docs, "redis").update(args=["--requirepass", "hunter2"]),
        pod_checks.no_secret_is_in_plain_text,
    ),
    "a password in a configuration": (
        "base",
        lambda docs: rewrite(docs, "{url: ", "{password: hunter2, url: "),
        pod_checks.no_secret_is_in_plain_text,
    ),
    "a name of a port that is too long": (
        "base",
        lambda docs: container(docs, "torchserve")["ports"][1].update(name="grpc-management1"),
        name_checks.names_are_accepted,
    ),
    "two variables of one name": (
        "base",
        lambda docs: container(docs, "triton")["env"].append({"name": "PLATFORM", "value": "x"}),
        name_checks.names_are_accepted,
    ),
    "a Service with a dot in its name": (
        "base",
        lambda docs: the(docs, "Service", "redis")["metadata"].update(name="redis.cache"),
        name_checks.names_are_accepted,
    ),
    "a label with a blank": (
        "base",
        lambda docs: the(docs, "Service", "redis")["metadata"]["labels"].update(tier="the cache"),
        name_checks.names_are_accepted,
    ),
    "a variable of two sources": (
        EVERYTHING,
        lambda docs: container(docs)["env"][-1].update(
            value="x", valueFrom={"secretKeyRef": {"name": "a", "key": "b"}}
        ),
        pod_checks.no_secret_is_in_plain_text,
    ),
}
