"""What the dashboard shows, from top to bottom, as plain data. `dashboard.py` makes JSON of it.

To add a panel, add it to its row, in one of the `*_rows.py` beside this, and run `make dashboards`. A test
runs every query against a Prometheus that has scraped a real gateway, and wants data from it
(tests/observability/test_queries.py).
"""

from deploy.grafana.client_rows import FAILURES, OBJECTIVES, TIMES, TRAFFIC
from deploy.grafana.engine_rows import AVAILABILITY
from deploy.grafana.flow_rows import ADMISSION, BATCHES, CACHE, RETRIES
from deploy.grafana.gateway_rows import PROCESSES, SATURATION
from deploy.grafana.rollout_rows import ROLLOUTS

ROWS = (
    OBJECTIVES,
    TRAFFIC,
    FAILURES,
    TIMES,
    CACHE,
    ADMISSION,
    RETRIES,
    BATCHES,
    AVAILABILITY,
    SATURATION,
    PROCESSES,
    ROLLOUTS,
)
