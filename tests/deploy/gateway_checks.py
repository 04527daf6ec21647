"""Checks of the gateway's rendered configuration: the gateway takes it, and all that it names is there."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from gateway.configuration import ConfigurationError
from gateway.loading import load_contracts, load_settings
from gateway.settings import Settings
from gateway.supervisor.worker import GRACE_SECONDS
from tests.deploy.manifests import Document, Documents, has_port, identity, named, services, workloads

ROOT = Path(__file__).parents[2]
IN_THE_IMAGE = "/opt/inferway/models/"
CONFIGURATION = "/etc/inferway/inferway.yaml"
SECRETS = "/etc/inferway-redis"
DNS_TTL_SECONDS = 5
"""Of the records that CoreDNS makes for Services: https://coredns.io/plugins/kubernetes/"""
TURNED_AWAY_SECONDS = 5
"""Until whatever forwards to a pod that ends has heard of it: kube-proxy, an ingress controller."""
URL_OF_THE_USER = "rediss://redis.example.com:6379/0"
"""Stands for what a Secret says; only the URL of a Redis comes from one."""


def configuration_is_accepted(documents: Documents) -> Iterator[str]:
    """By the gateway's own loader, with the variables of its container, contracts included."""
    try:
        settings = settings_of(documents)
        load_contracts(settings, ROOT)
    except (ConfigurationError, LookupError) as error:
        yield f"Deployment/gateway: {error}"


def endpoints_exist(documents: Documents) -> Iterator[str]:
    """Every address leads to a port of a server; what is looked up, to each replica; every engine is one."""
    settings = settings_of(documents)
    called = set()
    for name, endpoint in settings.endpoints.items():
        here = endpoint.at(endpoint.dns) if endpoint.dns else endpoint
        for address in filter(None, (here.address, here.management_address)):
            host, _, port = address.rpartition(":")
            called.add(host)
            if not _answers(documents, host, int(port)):
                yield f"ConfigMap/gateway: endpoints.{name}: nothing answers at {address}"
        service = named(documents, "Service", endpoint.dns_name) if endpoint.dns else None
        if service and service["spec"].get("clusterIP") != "None":
            yield f"{identity(service)}: its name leads to one address, whatever the number of replicas"
    for url in (settings.cache.redis.url, settings.quotas.redis.url):
        where = urlsplit(url)
        if url != URL_OF_THE_USER and (
            where.hostname is None or not _answers(documents, where.hostname, where.port or 6379)
        ):
            yield f"ConfigMap/gateway: nothing answers at {url}"
    for workload in workloads(documents):
        if workload.kind == "StatefulSet" and workload.document["spec"]["serviceName"] not in {
            "redis",
            *called,
        }:
            yield f"{workload}: is no endpoint of the gateway"


def engines_answer_until_forgotten(documents: Documents) -> Iterator[str]:
    """One that is to end leaves DNS first, and answers until caches and gateways have let go of it."""
    balancing = settings_of(documents).balancing
    # What was sent last has ended, too, before the engine is told to end.
    needed = DNS_TTL_SECONDS + balancing.discovery_interval_seconds + balancing.attempt_timeout_seconds
    for workload in workloads(documents):
        if workload.kind != "StatefulSet" or workload.name == "redis":
            continue
        asleep = workload.pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        if not needed < asleep.get("seconds", 0) < workload.pod["terminationGracePeriodSeconds"]:
            yield f"{workload}: does not answer for {needed:g} s while it ends"
        service = named(documents, "Service", workload.document["spec"]["serviceName"]) or {"spec": {}}
        if service["spec"].get("publishNotReadyAddresses"):
            yield f"{identity(service)}: DNS names a replica that ends until it has ended"


def the_gateway_drains(documents: Documents) -> Iterator[str]:
    """It answers until nothing is sent to it, then ends what it has, however slow, before it is killed."""
    pod = (named(documents, "Deployment", "gateway") or {})["spec"]["template"]["spec"]
    settings = settings_of(documents)
    server = settings.server
    asleep = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    answers = asleep + server.drain_delay_seconds
    if answers < TURNED_AWAY_SECONDS:
        yield f"Deployment/gateway: answers for {answers:g} s after it was told to end"
    slowest = max(contract.timeout_seconds for contract in load_contracts(settings, ROOT).values())
    if server.drain_seconds < slowest:
        yield f"Deployment/gateway: drains for {server.drain_seconds:g} s, and a request may take {slowest:g}"
    needed = answers + server.drain_seconds + (GRACE_SECONDS if server.processes > 1 else 0)
    if not needed < pod["terminationGracePeriodSeconds"]:
        yield f"Deployment/gateway: is killed before the {needed:g} s are over that it may take to end"


def _answers(documents: Documents, host: str, port: int) -> bool:
    """Whether `host:port` is a port of a Service with a server behind it."""
    behind = services(documents).get(host, {}).get(port, ())
    return any(has_port(workload, port) for workload in behind)


def settings_of(documents: Documents) -> Settings:
    """The settings that the gateway's container would have.

    Raises:
        ConfigurationError: the gateway refuses them.
        LookupError: the Deployment does not mount what its arguments name.
    """
    container, text = _read(documents)
    return _loaded(
        text, tuple((one["name"], one.get("value", URL_OF_THE_USER)) for one in container.get("env", ()))
    )


@cache  # many renderings have the same
def _loaded(text: str, environment: tuple[tuple[str, str], ...]) -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inferway.yaml"
        path.write_text(text)
        return load_settings(path, dict(environment))


def _read(documents: Documents) -> tuple[Document, str]:
    """The gateway's container, and its configuration with this repository's models."""
    deployment = named(documents, "Deployment", "gateway") or {}
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    if container["args"] != ["--config", CONFIGURATION]:
        raise LookupError(f"arguments are {container['args']}")
    mount = next(one for one in container["volumeMounts"] if one["mountPath"] == "/etc/inferway")
    volume = next(one for one in pod["volumes"] if one["name"] == mount["name"])
    config = named(documents, "ConfigMap", volume["configMap"]["name"]) or {"data": {}}
    text: str = config["data"]["inferway.yaml"]
    return container, text.replace(IN_THE_IMAGE, f"{ROOT}/models/")


def write_configuration(documents: Documents, folder: Path) -> tuple[Path, dict[str, str]]:
    """The file that the container would read, with this repository's models, and its variables.

    Raises:
        LookupError: the Deployment does not mount what its arguments name.
    """
    container, text = _read(documents)
    path = folder / "inferway.yaml"
    path.write_text(text.replace(f"{SECRETS}/", f"{folder}/"))
    # A Secret's content is the user's: an address, a password, or a file without a key, stands here for it.
    (folder / "password").write_text("of-the-test")
    (folder / "keys.yaml").write_text("keys: {}\n")
    environment = {one["name"]: one.get("value", URL_OF_THE_USER) for one in container.get("env", ())}
    if "INFERWAY_KEYS__FILE" in environment:
        environment["INFERWAY_KEYS__FILE"] = str(folder / "keys.yaml")
    return path, environment


def checked_by_the_gateway(documents: Documents, folder: Path) -> str:
    """What `python -m gateway --check` says of it; empty when it is content."""
    path, environment = write_configuration(documents, folder)
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--config", path, "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    return done.stderr if done.returncode else ""
