"""What a reload or a version switch costs the requests that come meanwhile.

    .venvs/dev/bin/python -m loadtests.switching

A gateway in front of a real Triton and a real TorchServe, which hold versions 1 and 2 of cnn_mnist. Distinct
requests come at a fixed rate, three of four over REST, one over gRPC (`tests.chaos.steady`: an open loop);
every answer is checked, nobody retries but the gateway, the cache is off. Again and again something changes:
the kinds take turns, and one of them is that nothing changes, which shows what the machine does by itself.
The p99 of the seconds after a change was asked for is compared with that of those before. The results go
into docs/reload.md and docs/reload.json.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from loadtests.conditions import conditions
from tests.chaos.steady import Sample, Steady, p99
from tests.load import distinct_images, drive
from tests.serving import (
    BUILT,
    MODEL,
    ROOT,
    StartedGateway,
    running_gateway,
    running_torchserve,
    running_triton,
)

BEFORE_SECONDS, AFTER_SECONDS, REST_SECONDS = 3.0, 2.0, 0.5
NOTHING = "nothing"
SETTING = "`hedging.budget_ratio`, POST /reload"
BALANCING = "`balancing.consecutive_failures`, SIGHUP"
VERSION = "the model's version, POST /reload"
KINDS = (NOTHING, SETTING, BALANCING, VERSION)
TARGET_RATIO = 1.2
PAGE, RESULTS = ROOT / "docs" / "reload.md", ROOT / "docs" / "reload.json"
BEGIN, END = "<!-- figures: made by loadtests.switching -->", "<!-- end of figures -->"


@dataclass(slots=True)
class Outcome:
    """What became of the requests around the changes of one kind.

    Attributes:
        before: the requests of the seconds before each change.
        after: those of the seconds after it was asked for.
    """

    before: list[list[Sample]] = field(default_factory=list)
    after: list[list[Sample]] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """What was said instead of the right answer."""
        return [sample.failed for part in (*self.before, *self.after) for sample in part if sample.failed]

    def figures(self) -> dict[str, Any]:
        """Milliseconds, as they are written down."""
        before, after = (p99([s for part in side for s in part]) for side in (self.before, self.after))
        spread = np.percentile([p99(part) for part in self.after], [0, 50, 100])
        return {
            "changes": len(self.after),
            "requests": sum(map(len, (*self.before, *self.after))),
            "failed": len(self.failed),
            "p99_before_ms": round(before * 1e3, 1),
            "p99_after_ms": round(after * 1e3, 1),
            "ratio": round(after / before, 2),
            "p99_after_each_ms": [round(value * 1e3, 1) for value in spread],
        }


@dataclass(slots=True)
class Rig:
    """A gateway whose configuration can be changed."""

    gateway: StartedGateway
    path: Path
    model: Path
    asked: int = 0

    def write(self, kind: str) -> None:
        """Change one thing in the files to the other of two values; nothing takes it yet."""
        settings = yaml.safe_load(self.path.read_text())
        if kind == SETTING:
            toggle(settings.setdefault("hedging", {}), "budget_ratio", 0.05, 0.06)
        if kind == BALANCING:
            toggle(settings.setdefault("balancing", {}), "consecutive_failures", 5, 6)
        self.path.write_text(yaml.safe_dump(settings))
        if kind == VERSION:
            contract = yaml.safe_load((self.model / "model.yaml").read_text())
            write_contract(self.model, contract, "2" if contract["default_version"] == "1" else "1")

    async def take(self, kind: str) -> None:
        """Have what was written taken."""
        if kind == NOTHING:
            return
        self.asked += 1
        if kind == BALANCING:
            os.kill(self.gateway.running.pid, signal.SIGHUP)
        else:
            await asyncio.to_thread(self._reload)

    def _reload(self) -> None:
        headers = {"content-type": "application/json"}
        url = f"http://{self.gateway.admin}/reload"
        request = urllib.request.Request(url, method="POST", headers=headers)
        urllib.request.urlopen(request, timeout=60).close()  # noqa: S310


def toggle(section: dict[str, Any], key: str, one: float, other: float) -> None:
    """Set the key to the value that it does not have."""
    section[key] = other if section.get(key, one) == one else one


def write_contract(model: Path, contract: Mapping[str, Any], version: str) -> None:
    """Let the model have this one version, and no cache."""
    (spec,) = contract["versions"].values()
    changed = {
        "default_version": version,
        "labels": {"stable": version},
        "versions": {version: spec},
        "cache": {"enabled": False},
    }
    (model / "model.yaml").write_text(yaml.safe_dump({**contract, **changed}))


def two_versions(folder: Path) -> Path:
    """What `make models` built of fp32 for Triton and TorchServe, as versions 1 and 2."""
    built = folder / "built"
    shutil.copytree(BUILT / "triton" / MODEL, built / "triton" / MODEL)
    shutil.copytree(built / "triton" / MODEL / "1", built / "triton" / MODEL / "2")
    store = built / "torchserve"
    store.mkdir()
    shutil.copy(BUILT / "torchserve" / f"{MODEL}.mar", store)
    with zipfile.ZipFile(store / f"{MODEL}.mar") as first, zipfile.ZipFile(store / "two.mar", "w") as second:
        for name in first.namelist():
            content = first.read(name)
            if name == "MAR-INF/MANIFEST.json":
                manifest = json.loads(content)
                content = json.dumps(
                    {**manifest, "model": {**manifest["model"], "modelVersion": "2"}}
                ).encode()
            second.writestr(name, content)
    return built


async def capacity(gateway: StartedGateway, count: int = 3000) -> float:
    """Requests a second over REST with 16 in flight, after as many to warm up."""
    loop = asyncio.get_running_loop()
    for seed in (1, 2):
        images = distinct_images(count, seed)
        began = loop.time()
        outcome = await drive(gateway.http, images, connections=16)
        if outcome.failed:
            raise SystemExit(next(iter(outcome.failed.values())))
    return count / (loop.time() - began)


async def measure(rig: Rig, rate: float, rounds: int) -> dict[str, Outcome]:
    """Every kind of change in turn, under load."""
    round_seconds = len(KINDS) * (BEFORE_SECONDS + AFTER_SECONDS + REST_SECONDS)
    load = Steady(rig.gateway.http, rig.gateway.grpc, rate, 1.5 * rounds * round_seconds + 10)
    load.start(3)
    asked: list[tuple[str, float]] = []
    try:
        for _ in range(rounds):
            for kind in KINDS:
                rig.write(kind)  # now: it keeps this process, which sends the requests, for some milliseconds
                await asyncio.sleep(REST_SECONDS + BEFORE_SECONDS)
                asked.append((kind, load.now))
                await asyncio.gather(rig.take(kind), asyncio.sleep(AFTER_SECONDS))
    finally:
        samples = await load.stop()
    outcomes = {kind: Outcome() for kind in KINDS}
    for kind, at in asked:
        outcomes[kind].before.append([s for s in samples if at - BEFORE_SECONDS <= s.sent < at])
        outcomes[kind].after.append([s for s in samples if at <= s.sent < at + AFTER_SECONDS])
    taken = rig.gateway.metric("gateway_reloads_total", result="ok")
    if taken != rig.asked:
        raise SystemExit(f"{taken:g} of {rig.asked} changes were taken")
    return outcomes


def run(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Outcome], float, float]:
    """The outcome by kind, the capacity and the rate, both in requests a second."""
    model = folder / "models" / MODEL
    shutil.copytree(ROOT / "models" / MODEL, model)
    contract = yaml.safe_load((model / "model.yaml").read_text())
    spec = contract["versions"]["1"]
    one_variant = {**contract, "versions": {"1": {"variants": {"fp32": spec["variants"]["fp32"]}}}}
    write_contract(model, one_variant, "1")
    built = two_versions(folder)
    with ExitStack() as stack:
        triton = stack.enter_context(running_triton(folder / "triton", built=built))
        torchserve = stack.enter_context(running_torchserve(folder / "torchserve", built=built))
        settings = {
            "models": [str(model)],
            "endpoints": {"triton": triton.endpoint, "torchserve": torchserve.endpoint},
            "reload": {"watch": False},
        }
        gateway = stack.enter_context(running_gateway(folder / "gateway", settings))
        rig = Rig(gateway, folder / "gateway" / "inferway.yaml", model)
        most = asyncio.run(capacity(gateway))
        rate = options.rate or options.share * most
        sys.stderr.write(f"{most:.0f} requests a second at most; {rate:.0f} from here\n")
        return asyncio.run(measure(rig, rate, options.rounds)), most, rate


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures in Markdown."""
    heads = ("what changes", "changes", "requests", "failed", "p99 before, ms", "p99 after", "ratio")
    lines = [
        f"| {' | '.join(heads)} | p99 after each: least, median, most |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for kind, f in figures.items():
        each = ", ".join(map(str, f["p99_after_each_ms"]))
        lines.append(
            f"| {kind} | {f['changes']} | {f['requests']} | {f['failed']} "
            f"| {f['p99_before_ms']} | {f['p99_after_ms']} | {f['ratio']} | {each} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; exit code 1 when a request failed or the target was missed."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.switching", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="changes of each kind; default: %(default)s")
    parser.add_argument("--share", type=float, default=0.2, help="of the capacity; default: %(default)s")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second, in place of a share")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        outcomes, most, rate = run(Path(folder), options)
    figures = {kind: outcome.figures() for kind, outcome in outcomes.items()}
    described = (
        f"{conditions(('grpcio', 'uvicorn'))}; Triton and TorchServe; {rate:.0f} requests a second, "
        f"capacity {most:.0f}; {BEFORE_SECONDS:g} s before and {AFTER_SECONDS:g} s after each change."
    )
    text = f"{described}\n\n{table(figures)}\n"
    sys.stdout.write(text)
    if not options.no_write:
        RESULTS.write_text(json.dumps({"conditions": described, "changes": figures}, indent=1) + "\n")
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")
    failed = [failure for outcome in outcomes.values() for failure in outcome.failed]
    for line in failed[:5]:
        sys.stderr.write(f"failed: {line}\n")
    return int(bool(failed) or any(f["ratio"] > TARGET_RATIO for f in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
