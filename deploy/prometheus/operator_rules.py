"""The same rules for the Prometheus operator: `make dashboards` puts them all into one PrometheusRule."""

import sys
from pathlib import Path

import yaml

from deploy.generated import as_yaml, write_or_check

FOLDER = Path(__file__).parent
PATH = FOLDER.parent / "k8s" / "components" / "prometheus-rules" / "prometheus-rule.yaml"


def rendered() -> str:
    """The PrometheusRule as it must be."""
    files = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["rule_files"]
    groups = [group for name in files for group in yaml.safe_load((FOLDER / name).read_text())["groups"]]
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "inferway"},
        "spec": {"groups": groups},
    }
    return "# Made from deploy/prometheus by `make dashboards`: change that.\n" + as_yaml(document)


def main(arguments: list[str]) -> int:
    """Write the PrometheusRule; with `--check` say whether it is up to date instead."""
    return write_or_check(PATH, rendered(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
