"""Every check of rendered manifests: each takes the documents, and yields a line for each fault."""

from collections.abc import Callable, Iterator

from tests.deploy import (
    gateway_checks,
    name_checks,
    pod_checks,
    reference_checks,
    schema_checks,
    wiring_checks,
)
from tests.deploy.manifests import Documents

Check = Callable[[Documents], Iterator[str]]

CHECKS: tuple[Check, ...] = (
    schema_checks.schemas_are_met,
    pod_checks.images_are_pinned,
    pod_checks.resources_are_limited,
    pod_checks.pods_are_restricted,
    pod_checks.volumes_are_used,
    pod_checks.no_secret_is_in_plain_text,
    reference_checks.everything_is_in_the_namespace,
    wiring_checks.selectors_match,
    wiring_checks.ports_exist,
    wiring_checks.containers_are_probed,
    wiring_checks.scalers_are_sane,
    wiring_checks.disruptions_are_bounded,
    wiring_checks.routes_arrive,
    wiring_checks.the_admin_port_is_closed,
    wiring_checks.the_gateway_is_asked_what_fits,
    reference_checks.references_resolve,
    reference_checks.files_are_mounted,
    name_checks.names_are_accepted,
    gateway_checks.configuration_is_accepted,
    gateway_checks.endpoints_exist,
    gateway_checks.engines_answer_until_forgotten,
    gateway_checks.the_gateway_drains,
)
