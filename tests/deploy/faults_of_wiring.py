"""Faults in what points to what, the gateway's configuration included."""

import copy

from tests.deploy import gateway_checks, reference_checks, wiring_checks
from tests.deploy.planting import Fault, configuration_of, container, pod, rename, rewrite, the

FAULTS: dict[str, Fault] = {
    "probe on a port name that does not exist": (
        "base",
        lambda docs: container(docs)["readinessProbe"]["httpGet"].update(port="admn"),
        wiring_checks.ports_exist,
    ),
    "probe on a port number that does not exist": (
        "base",
        lambda docs: container(docs, "tfserving")["livenessProbe"]["grpc"].update(port=8502),
        wiring_checks.ports_exist,
    ),
    "targetPort that does not exist": (
        "base",
        lambda docs: the(docs, "Service", "gateway")["spec"]["ports"][0].update(targetPort="https"),
        wiring_checks.ports_exist,
    ),
    "monitor of a port that does not exist": (
        "base+pod-monitors",
        lambda docs: the(docs, "PodMonitor", "tfserving")["spec"]["podMetricsEndpoints"][0].update(
            port="metrics"
        ),
        wiring_checks.ports_exist,
    ),
    "policy for a port that does not exist": (
        "base",
        lambda docs: the(docs, "NetworkPolicy", "redis")["spec"]["ingress"][0]["ports"][0].update(port=6380),
        wiring_checks.ports_exist,
    ),
    "no readiness probe": (
        "base",
        lambda docs: container(docs, "triton").pop("readinessProbe"),
        wiring_checks.containers_are_probed,
    ),
    "StatefulSet without its Service": (
        "base",
        lambda docs: the(docs, "StatefulSet", "triton")["spec"].update(serviceName="tritons"),
        wiring_checks.containers_are_probed,
    ),
    "Service that selects nothing": (
        "base",
        lambda docs: the(docs, "Service", "triton")["spec"]["selector"].update(app="triton"),
        wiring_checks.selectors_match,
    ),
    "PodMonitor that selects nothing": (
        "base+pod-monitors",
        lambda docs: the(docs, "PodMonitor", "triton")["spec"]["selector"].update(
            matchLabels={"app": "triton"}
        ),
        wiring_checks.selectors_match,
    ),
    "Deployment that does not select its own pods": (
        "base",
        lambda docs: the(docs, "Deployment", "gateway")["spec"]["selector"].update(
            matchLabels={"app": "gateway"}
        ),
        wiring_checks.selectors_match,
    ),
    "disruption budget of nothing": (
        "base",
        lambda docs: the(docs, "PodDisruptionBudget", "gateway")["spec"]["selector"].update(
            matchLabels={"app.kubernetes.io/name": "gatway"}
        ),
        wiring_checks.selectors_match,
    ),
    "spread of other pods": (
        "base",
        lambda docs: pod(docs)["topologySpreadConstraints"][0].update(
            labelSelector={"matchLabels": {"a": "b"}}
        ),
        wiring_checks.selectors_match,
    ),
    "policy for a pod that is not there": (
        "base",
        lambda docs: the(docs, "NetworkPolicy", "gateway")["spec"]["egress"][0]["to"][0][
            "podSelector"
        ].update(matchLabels={"app.kubernetes.io/name": "torchserv"}),
        wiring_checks.selectors_match,
    ),
    "disruption budget that blocks every drain": (
        "base",
        lambda docs: rename(
            the(docs, "PodDisruptionBudget", "triton")["spec"], "maxUnavailable", "minAvailable"
        ),
        wiring_checks.disruptions_are_bounded,
    ),
    "disruption budget of none": (
        "base",
        lambda docs: the(docs, "PodDisruptionBudget", "triton")["spec"].update(maxUnavailable="0%"),
        wiring_checks.disruptions_are_bounded,
    ),
    "no disruption budget": (
        "base",
        lambda docs: docs.remove(the(docs, "PodDisruptionBudget", "triton")),
        wiring_checks.disruptions_are_bounded,
    ),
    "HPA min over max": (
        "base+autoscaling",
        lambda docs: the(docs, "HorizontalPodAutoscaler", "gateway")["spec"].update(minReplicas=13),
        wiring_checks.scalers_are_sane,
    ),
    "ScaledObject min over max": (
        "base+keda",
        lambda docs: the(docs, "ScaledObject", "gateway")["spec"].update(maxReplicaCount=2),
        wiring_checks.scalers_are_sane,
    ),
    "ScaledObject of nothing": (
        "base+keda",
        lambda docs: the(docs, "ScaledObject", "gateway")["spec"].update(scaleTargetRef={"name": "gate"}),
        wiring_checks.scalers_are_sane,
    ),
    "HPA of nothing": (
        "base+autoscaling",
        lambda docs: the(docs, "HorizontalPodAutoscaler", "gateway")["spec"]["scaleTargetRef"].update(
            name="gate"
        ),
        wiring_checks.scalers_are_sane,
    ),
    "HPA and a number of replicas": (
        "base+autoscaling",
        lambda docs: the(docs, "Deployment", "gateway")["spec"].update(replicas=3),
        wiring_checks.scalers_are_sane,
    ),
    "two autoscalers": (
        "base+autoscaling",
        lambda docs: docs.append(copy.deepcopy(the(docs, "HorizontalPodAutoscaler", "gateway"))),
        wiring_checks.scalers_are_sane,
    ),
    "a ConfigMap that is not there": (
        "base",
        lambda docs: pod(docs)["volumes"][0]["configMap"].update(name="gateway"),
        reference_checks.references_resolve,
    ),
    "a key of a Secret that is not there": (
        "base+managed-redis",
        lambda docs: container(docs)["env"][0]["valueFrom"]["secretKeyRef"].update(key="uri"),
        reference_checks.references_resolve,
    ),
    "a Secret that nobody is told to make": (
        "base+keys",
        lambda docs: next(one for one in pod(docs)["volumes"] if "secret" in one)["secret"].update(
            secretName="keys"
        ),
        reference_checks.references_resolve,
    ),
    "a file that has another name in its ConfigMap": (
        "base",
        lambda docs: rename(configuration_of(docs, "tfserving"), "monitoring.config", "monitor.config"),
        reference_checks.files_are_mounted,
    ),
    "a file that no Secret holds": (
        "base+keys",
        lambda docs: container(docs)["env"][0].update(value="/etc/inferway-keys/key.yaml"),
        reference_checks.files_are_mounted,
    ),
    "a file of the configuration that is mounted elsewhere": (
        "base",
        lambda docs: rewrite(docs, "/etc/inferway-redis/", "/etc/redis/"),
        reference_checks.files_are_mounted,
    ),
    "a mounted key that no Secret has": (
        "base",
        lambda docs: pod(docs, "redis")["volumes"][0]["secret"]["items"][0].update(key="pasword"),
        reference_checks.files_are_mounted,
    ),
    "a claim that is not there": (
        "base+models-pvc",
        lambda docs: docs.remove(the(docs, "PersistentVolumeClaim", "models")),
        reference_checks.references_resolve,
    ),
    "an account that is not there": (
        "base",
        lambda docs: docs.remove(the(docs, "ServiceAccount", "redis")),
        reference_checks.references_resolve,
    ),
    "a runtime that is not there": (
        "kserve",
        lambda docs: the(docs, "ServingRuntime", "inferway-triton")["metadata"].update(name="triton"),
        reference_checks.references_resolve,
    ),
    "an Ingress to nowhere": (
        "base+ingress",
        lambda docs: the(docs, "Ingress", "gateway-grpc")["spec"]["rules"][0]["http"]["paths"][0]["backend"][
            "service"
        ]["port"].update(name="h2c"),
        wiring_checks.routes_arrive,
    ),
    "an Ingress to no Service": (
        "base+ingress",
        lambda docs: the(docs, "Ingress", "gateway-http")["spec"].update(
            rules=[], defaultBackend={"service": {"name": "gate", "port": {"number": 8080}}}
        ),
        wiring_checks.routes_arrive,
    ),
    "a route to no Service": (
        "base+gateway-api",
        lambda docs: the(docs, "HTTPRoute", "gateway")["spec"]["rules"][0]["backendRefs"][0].update(
            name="gate"
        ),
        wiring_checks.routes_arrive,
    ),
    "a route to nowhere": (
        "base+gateway-api",
        lambda docs: the(docs, "GRPCRoute", "gateway")["spec"]["rules"][0]["backendRefs"][0].update(
            port=8082
        ),
        wiring_checks.routes_arrive,
    ),
    "a route of no listener": (
        "base+gateway-api",
        lambda docs: the(docs, "HTTPRoute", "gateway")["spec"]["parentRefs"][0].update(sectionName="web"),
        wiring_checks.routes_arrive,
    ),
    "a Service that is open to the outside": (
        "base",
        lambda docs: the(docs, "Service", "gateway")["spec"].update(type="LoadBalancer"),
        wiring_checks.the_admin_port_is_closed,
    ),
    "a Service of the admin port": (
        "base",
        lambda docs: the(docs, "Service", "gateway")["spec"]["ports"].append(
            {"name": "metrics", "port": 80, "targetPort": "admin"}
        ),
        wiring_checks.the_admin_port_is_closed,
    ),
    "a gateway that restarts when an engine is lost": (
        "base",
        lambda docs: container(docs)["livenessProbe"]["httpGet"].update(path="/readyz"),
        wiring_checks.the_gateway_is_asked_what_fits,
    ),
    "a job that no rule asks for": (
        "base+pod-monitors",
        lambda docs: the(docs, "PodMonitor", "gateway")["spec"].pop("jobLabel"),
        wiring_checks.the_gateway_is_asked_what_fits,
    ),
    "metrics from where there are none": (
        "base+pod-monitors",
        lambda docs: the(docs, "PodMonitor", "gateway")["spec"]["podMetricsEndpoints"][0].update(path="/"),
        wiring_checks.the_gateway_is_asked_what_fits,
    ),
    "a label of the operator's over one of the metrics": (
        "base+pod-monitors",
        lambda docs: the(docs, "PodMonitor", "gateway")["spec"]["podMetricsEndpoints"][0].pop("honorLabels"),
        wiring_checks.the_gateway_is_asked_what_fits,
    ),
    "out of the namespace": (
        "base",
        lambda docs: the(docs, "Service", "redis")["metadata"].pop("namespace"),
        reference_checks.everything_is_in_the_namespace,
    ),
    "a setting that the gateway does not know": (
        "base",
        lambda docs: rewrite(docs, "drain_seconds", "drain_second"),
        gateway_checks.configuration_is_accepted,
    ),
    "a variable that the gateway does not know": (
        "base",
        lambda docs: container(docs).update(env=[{"name": "INFERWAY_SERVER__HTTP_PROT", "value": "1"}]),
        gateway_checks.configuration_is_accepted,
    ),
    "a model that is not there": (
        "base",
        lambda docs: rewrite(docs, "/cnn_mnist", "/cnn_minst"),
        gateway_checks.configuration_is_accepted,
    ),
    "an endpoint of no Service": (
        "base",
        lambda docs: rewrite(docs, '"triton:8001', '"trition:8001'),
        gateway_checks.endpoints_exist,
    ),
    "an endpoint at a port of no Service": (
        "base",
        lambda docs: rewrite(docs, ":8001", ":8000"),
        gateway_checks.endpoints_exist,
    ),
    "a management port of no Service": (
        "base",
        lambda docs: rewrite(docs, "7071", "7072"),
        gateway_checks.endpoints_exist,
    ),
    "a name that leads to one address": (
        "overlays/production",
        lambda docs: the(docs, "Service", "triton")["spec"].pop("clusterIP"),
        gateway_checks.endpoints_exist,
    ),
    "an engine that is no endpoint": (
        "overlays/production",
        lambda docs: rewrite(docs, '"triton:8001', '"tfserving:8500'),
        gateway_checks.endpoints_exist,
    ),
    "an engine that ends before it is forgotten": (
        "base",
        lambda docs: container(docs, "triton")["lifecycle"]["preStop"]["sleep"].update(seconds=10),
        gateway_checks.engines_answer_until_forgotten,
    ),
    "an engine that ends before its last answers": (
        "base",
        lambda docs: rewrite(docs, "\nmodels:", "\nbalancing: {attempt_timeout_seconds: 6}\nmodels:"),
        gateway_checks.engines_answer_until_forgotten,
    ),
    "a gateway that is killed while it drains": (
        "base",
        lambda docs: pod(docs).update(terminationGracePeriodSeconds=25),
        gateway_checks.the_gateway_drains,
    ),
    "a gateway of several processes that is killed while it drains": (
        "base",
        lambda docs: rewrite(docs, "drain_seconds: 20", "drain_seconds: 20, processes: 2"),
        gateway_checks.the_gateway_drains,
    ),
    "a gateway that drains for less time than a request may take": (
        "base",
        lambda docs: rewrite(docs, "drain_seconds: 20", "drain_seconds: 9"),
        gateway_checks.the_gateway_drains,
    ),
    "a gateway that is sent requests after it has closed": (
        "base",
        lambda docs: container(docs).pop("lifecycle"),
        gateway_checks.the_gateway_drains,
    ),
    "an engine that is killed while it waits": (
        "base",
        lambda docs: pod(docs, "triton").update(terminationGracePeriodSeconds=15),
        gateway_checks.engines_answer_until_forgotten,
    ),
    "a name that leads to what ends": (
        "base",
        lambda docs: the(docs, "Service", "triton")["spec"].update(publishNotReadyAddresses=True),
        gateway_checks.engines_answer_until_forgotten,
    ),
    "an endpoint that KServe does not make": (
        "kserve",
        lambda docs: rewrite(docs, "triton-predictor", "triton"),
        gateway_checks.endpoints_exist,
    ),
}
