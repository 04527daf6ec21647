"""The dashboard's row on the engines: which endpoints there are, and how well they are."""

from deploy.grafana.queries import MODEL, RATE, Panel, Query, Row

AVAILABILITY = Row(
    "Ejections and availability",
    (
        Panel(
            "Endpoints that take traffic, share",
            "Of each engine, over all pools and gateways. 0 for a pool raises InferwayEngineLost.",
            "percentunit",
            (Query(f"avg by (backend) (gateway_endpoint_available_ratio{{{MODEL}}})", "{{backend}}"),),
        ),
        Panel(
            "Drained endpoints",
            "Taken out by an operator, in all gateways or in a part of them. No alert tells of it.",
            "percentunit",
            (
                Query(
                    f"avg by (endpoint) (gateway_endpoint_draining_ratio{{{MODEL}}})",
                    "{{endpoint}}",
                ),
            ),
        ),
        Panel(
            "Ejections in ten minutes",
            "By endpoint and model. Four in one process raise InferwayEndpointEjected.",
            "short",
            (
                Query(
                    f"max by (endpoint, model) (increase(gateway_endpoint_ejections_total{{{MODEL}}}[10m]))",
                    "{{endpoint}} {{model}}",
                ),
            ),
        ),
        Panel(
            "Heals in ten minutes",
            "Times that a dead model of Triton's was loaded anew. Three that failed raise InferwayModelDead.",
            "short",
            (
                Query(
                    "sum by (endpoint, model, result)"
                    f" (increase(gateway_endpoint_heals_total{{{MODEL}}}[10m]))",
                    "{{endpoint}} {{model}} {{result}}",
                ),
            ),
        ),
        Panel(
            "Look-ups of addresses by result",
            "Of entries with dns or file. More than half failed or empty raise InferwayDiscoveryFailing.",
            "ops",
            (
                Query(
                    f"sum by (endpoint, result) (rate(gateway_discovery_lookups_total{RATE}))",
                    "{{endpoint}} {{result}}",
                ),
            ),
        ),
        Panel(
            "Endpoints by engine and model",
            "How many a gateway knows, the most of all: with dns and file they come and go.",
            "short",
            (
                Query(
                    "max by (backend, model) (count by (instance, backend, model)"
                    " (group by (instance, backend, model, endpoint)"
                    f" (gateway_endpoint_available_ratio{{{MODEL}}})))",
                    "{{backend}} {{model}}",
                ),
            ),
        ),
    ),
)
