"""`inferway VERB`, or `python -m gateway.cli VERB`: asks a running gateway over its admin port.

Exit status: 0 done; 1 the gateway did not do it; 2 the command line is wrong; 3 nobody answers.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gateway.cli import tables
from gateway.cli.admin_client import AdminClient, CannotReach, NotDone

NOT_DONE = 1
NOBODY = 3

Verb = Callable[[AdminClient, argparse.Namespace], tuple[Any, str]]
"""What a verb does: the API's answer, and the same for people."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    asked = _parser().parse_args(arguments)
    verb: Verb = asked.verb
    try:
        answer, text = verb(AdminClient(asked.admin), asked)
    except NotDone as error:
        sys.stderr.write(f"inferway: {error}\n")
        return NOT_DONE
    except CannotReach as error:
        sys.stderr.write(f"inferway: {error}\n")
        return NOBODY
    sys.stdout.write((json.dumps(answer, indent=2) if asked.json else text) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    url = os.environ.get("INFERWAY_ADMIN", "http://127.0.0.1:8082")
    shared.add_argument("--admin", metavar="URL", default=url, help="the admin port (now: %(default)s)")
    shared.add_argument("--json", action="store_true", help="print what the API says")
    parser = argparse.ArgumentParser(prog="inferway", description="Show and change a running gateway.")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(within: Any, name: str, verb: Verb, does: str, *names: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = within.add_parser(
            name, help=does, description=does, parents=[shared]
        )
        for each in names:
            added.add_argument(each.lower(), metavar=each)
        added.set_defaults(verb=verb)
        return added

    def group(name: str, does: str) -> Any:
        return verbs.add_parser(name, help=does, description=does).add_subparsers(
            metavar="VERB", required=True
        )

    add(verbs, "status", _status, "version, readiness, processes, canaries and labels")
    add(verbs, "pools", _pools, "every endpoint of every pool, and its state")
    add(verbs, "overrides", _overrides, "what was changed since the last reload")
    add(verbs, "drain", _drain, "send an endpoint no new requests; those in flight finish", "ENDPOINT")
    add(verbs, "undrain", _undrain, "let an endpoint take requests again", "ENDPOINT")
    add(verbs, "reload", _reload, "read the configuration again; overrides end")
    canary = add(group("canary", "canaries"), "set", _canary, "set the weight of a model's canary", "MODEL")
    canary.add_argument("weight", metavar="WEIGHT", type=float, help="share of its requests, 0 to 1")
    canary.add_argument("--label", help="the canary of this label, in place of that of the default")
    add(
        group("label", "labels"),
        "set",
        _label,
        "let a label stand for a version",
        "MODEL",
        "LABEL",
        "VERSION",
    )
    add(group("cache", "the response cache"), "void", _void, "forget every answer of a model", "MODEL")
    return parser


def _status(client: AdminClient, _: argparse.Namespace) -> tuple[Any, str]:
    answer = client.get("status")
    ready = "ready" if answer["ready"] else "not ready"
    parts = [
        f"inferway {answer['version']}, {ready}",
        tables.processes(answer["processes"]),
        tables.canaries(answer["rollouts"]),
        tables.labels(answer["rollouts"]),
    ]
    return answer, "\n\n".join(filter(None, parts))


def _pools(client: AdminClient, _: argparse.Namespace) -> tuple[Any, str]:
    answer = client.get("pools")
    return answer, tables.pools(answer["endpoints"])


def _overrides(client: AdminClient, _: argparse.Namespace) -> tuple[Any, str]:
    answer = client.get("overrides")
    return answer, tables.overrides(answer["overrides"])


def _drain(client: AdminClient, asked: argparse.Namespace) -> tuple[Any, str]:
    answer = client.post("endpoints", asked.endpoint, "drain")
    return answer, f"{asked.endpoint}: draining in {_processes(answer)}"


def _undrain(client: AdminClient, asked: argparse.Namespace) -> tuple[Any, str]:
    answer = client.post("endpoints", asked.endpoint, "undrain")
    return answer, f"{asked.endpoint}: takes requests again in {_processes(answer)}"


def _canary(client: AdminClient, asked: argparse.Namespace) -> tuple[Any, str]:
    label = ("labels", asked.label) if asked.label else ()
    answer = client.put("models", asked.model, *label, "canary", body={"weight": asked.weight})
    whose = f"{asked.model} {asked.label}" if asked.label else asked.model
    return answer, f"{whose}: canary weight {asked.weight:g} in {_processes(answer)}"


def _label(client: AdminClient, asked: argparse.Namespace) -> tuple[Any, str]:
    answer = client.put("models", asked.model, "labels", asked.label, body={"version": asked.version})
    return answer, f"{asked.model}: {asked.label} is version {asked.version} in {_processes(answer)}"


def _void(client: AdminClient, asked: argparse.Namespace) -> tuple[Any, str]:
    answer = client.post("models", asked.model, "cache", "void")
    dropped = answer["dropped"]
    redis = "" if dropped["redis"] is None else f", {dropped['redis']} from Redis"
    return answer, f"{asked.model}: {dropped['memory']} answers dropped from memory{redis}"


def _reload(client: AdminClient, _: argparse.Namespace) -> tuple[Any, str]:
    answer = client.post("reload")
    return answer, f"reloaded in {_processes(answer)}; no overrides"


def _processes(answer: Any) -> str:
    count = answer["processes"]
    return "1 process" if count == 1 else f"{count} processes"


if __name__ == "__main__":
    sys.exit(main())
