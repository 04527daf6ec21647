"""The dashboard's rows on the gateways themselves: how full they are, their processes and configuration."""

from deploy.grafana.queries import ATTEMPTS, MODEL, RATE, Panel, Query, Row, summed_rate

SATURATION = Row(
    "In flight and saturation",
    (
        Panel(
            "Requests in flight by gateway",
            "What the gateway is answering. The autoscaler looks at it.",
            "short",
            (Query("gateway_in_flight_requests", "{{instance}}"),),
        ),
        Panel(
            "Requests in flight by endpoint",
            "Sent to an endpoint and not yet answered.",
            "short",
            (
                Query(
                    f"sum by (endpoint, model) (gateway_endpoint_in_flight_requests{{{MODEL}}})",
                    "{{endpoint}} {{model}}",
                ),
            ),
        ),
        Panel(
            "Load by endpoint",
            "What the balancer compares, the mean of all gateways: the lower of two gets a request.",
            "short",
            (
                Query(
                    f"avg by (endpoint, model) (gateway_endpoint_load{{{MODEL}}})",
                    "{{endpoint}} {{model}}",
                ),
            ),
        ),
        Panel(
            "Attempts under way for each endpoint, mean",
            "Rate times duration (Little's law): how busy an engine is between two samples.",
            "short",
            (Query(summed_rate(f"{ATTEMPTS}_sum", "backend"), "{{backend}}"),),
        ),
        Panel(
            "CPU of the gateway",
            "Cores in use. A process has one event loop: near `server.processes` the gateway is full.",
            "percentunit",
            (Query(f'rate(process_cpu_seconds_total{{job="gateway"}}{RATE})', "{{instance}}"),),
        ),
        Panel(
            "Memory of the gateway",
            "Resident; the memory tier of the cache is part of it.",
            "bytes",
            (Query('process_resident_memory_bytes{job="gateway"}', "{{instance}}"),),
        ),
        Panel(
            "Open files of the gateway, share of the limit",
            "Connections of clients and to engines are most of them.",
            "percentunit",
            (Query('process_open_fds{job="gateway"} / process_max_fds{job="gateway"}', "{{instance}}"),),
        ),
    ),
)

PROCESSES = Row(
    "Processes and configuration",
    (
        Panel(
            "Processes that answer Prometheus",
            "Gateways and engines; of a replica that is gone nothing is shown.",
            "short",
            (Query("sum by (job) (up)", "{{job}}"),),
            kind="number",
        ),
        Panel(
            "Processes by gateway",
            "Those that serve, where `server.processes` is more than 1.",
            "short",
            (Query("gateway_processes", "{{instance}}"),),
        ),
        Panel(
            "Restarts of processes in fifteen minutes",
            "Three raise InferwayProcessesRestart.",
            "short",
            (Query("increase(gateway_process_restarts_total[15m])", "{{instance}}"),),
        ),
        Panel(
            "Reloads in ten minutes",
            "Of the configuration, by result; each process counts its own.",
            "short",
            (Query("sum by (result) (increase(gateway_reloads_total[10m]))", "{{result}}"),),
        ),
        Panel(
            "Last reload was taken",
            "0 raises InferwayReloadRefused.",
            "bool_yes_no",
            (Query("gateway_reload_ok_ratio", "{{instance}}"),),
            kind="number",
        ),
        Panel(
            "Configuration, age",
            "How long each gateway has served what it serves. They should not differ for long.",
            "s",
            (Query("time() - gateway_configuration_loaded_timestamp_seconds", "{{instance}}"),),
        ),
    ),
)
