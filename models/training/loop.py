"""The training loop that every network here is trained by.

    one process       python -m models.NAME.train
    data-parallel     torchrun --nproc-per-node=2 -m models.NAME.train

It trains on a GPU where torch finds one. It shows a bar for each epoch, keeps a checkpoint after each (so
that the same command goes on where it was stopped), stops early when the validation score no longer rises,
and leaves the best weights in the network. The same seed gives the same order of the data in every number of
processes; each takes its share of the batches, and gradients are averaged over gloo.
"""

import atexit
import gc
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

Rows = NDArray[np.int64]


def device(rank: int, gpus: int) -> torch.device:
    """Where a machine's process of that rank trains: a GPU, its own while there are enough, or the CPU."""
    return torch.device("cuda", rank % gpus) if gpus else torch.device("cpu")


DEVICE = device(
    int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count() if torch.cuda.is_available() else 0
)
"""Where the loop trains. A task puts each batch there."""
MINIMUM_RATIO = 0.01
"""Where a falling learning rate ends, as a share of its peak."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train.

    Attributes:
        epochs: passes over the data, at most.
        rate: the peak learning rate.
        optimizer: `adamw` (I. Loshchilov and F. Hutter, arXiv:1711.05101) or `sgd` with Nesterov's momentum.
        schedule: after the warm-up: `cosine` (arXiv:1608.03983), `linear`, or `constant`.
        warm_up_ratio: share of all steps in which the rate rises to its peak.
        weight_decay: on matrices and kernels; biases and norms have none.
        clip_norm: largest norm of the gradient; 0: unbounded.
        patience: epochs without a better validation score before it stops; 0: never.
        seed: of the order of the data, of augmentation and of dropout.
    """

    epochs: int
    rate: float
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warm_up_ratio: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    patience: int = 2
    seed: int = 1


@dataclass(slots=True)
class History:
    """What happened, one entry an epoch (`rates`: learning rate at the end of each tenth of an epoch)."""

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = 0


class Task(Protocol):
    """What is trained: the data, the loss, and the score that decides."""

    def batches(self, rng: np.random.Generator) -> Sequence[Rows]:
        """The rows of each batch of one epoch; as many batches every time."""
        ...

    def loss(self, call: Callable[..., Any], rows: Rows, rng: np.random.Generator) -> Tensor:
        """The loss of one batch, a scalar. `call` is the network's `training_outputs` (or `logits`)."""
        ...

    def score(self, network: nn.Module) -> float:
        """The validation score; higher is better."""
        ...


class Trained(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """A network as training calls it: its forward is `training_outputs` where there is one, else `logits`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        """Whatever the network's own method returns."""
        return getattr(self.network, "training_outputs", self.network.logits)(*inputs)


def fit(
    network: nn.Module,
    task: Task,
    plan: Plan,
    folder: Path,
    *,
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None,
) -> History:
    """Train in place; `network` ends with its best weights, in evaluation mode, on the CPU.

    Args:
        network: what `task.loss` calls; its state is what a checkpoint keeps.
        task: data, loss and score.
        plan: how.
        folder: for `last.pt`, from which the next call goes on, and `history.json`.
        groups: parameters with their own `rate_ratio` and `weight_decay`; default: by `parameter_groups`.

    Returns:
        The history, over all calls that shared the folder.
    """
    rank, world = _join()
    network.to(DEVICE)
    torch.set_float32_matmul_precision("high")  # TF32, where a GPU has it
    torch.manual_seed(plan.seed + rank)
    steps = math.ceil(len(task.batches(np.random.default_rng(plan.seed))) / world)
    optimizer = _optimizer(plan, (groups or parameter_groups)(network))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_ratio(plan, steps * plan.epochs))
    history, best, start = _resume(folder, network, optimizer, schedule)
    caller: nn.Module = Trained(network)
    if world > 1:
        caller = DistributedDataParallel(caller)
    for epoch in range(start, plan.epochs):
        if plan.patience and epoch - history.best_epoch >= plan.patience and epoch:
            break
        rng = np.random.default_rng([plan.seed, epoch])
        begun, total = time.monotonic(), 0.0
        batches = _share(task.batches(rng), rank, world)
        network.train()
        with tqdm(batches, f"epoch {epoch + 1}/{plan.epochs}", disable=rank > 0, mininterval=2) as bar:
            for step, rows in enumerate(bar, 1):
                loss = task.loss(caller, rows, np.random.default_rng([plan.seed, epoch, step, rank]))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if plan.clip_norm:
                    nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm)
                optimizer.step()
                schedule.step()
                total += loss.item()
                bar.set_postfix(loss=f"{total / step:.4f}", refresh=False)
                if step % max(1, steps // 10) == 0:
                    history.rates.append(schedule.get_last_lr()[-1])
        network.eval()
        history.losses.append(total / len(batches))
        score = torch.tensor(task.score(network), dtype=torch.float64)
        _share_first([score], world)
        history.scores.append(score.item())
        history.seconds.append(time.monotonic() - begun)
        if history.scores[-1] > max(history.scores[:-1], default=-math.inf):
            history.best_epoch = epoch + 1
            best = {name: value.detach().clone() for name, value in network.state_dict().items()}
        if rank == 0:
            print(f"  loss {history.losses[-1]:.4f}, validation {history.scores[-1]:.4f}", flush=True)
            _keep(folder, network, optimizer, schedule, history, best)
    _share_first(best.values(), world)
    network.load_state_dict(best)
    network.to("cpu").eval()
    return history


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are, and its inputs must be."""
    where: torch.device = next(network.parameters()).device
    return where


def rate_ratio(plan: Plan, steps: int) -> Callable[[int], float]:
    """The learning rate after each step, as a share of its peak: a linear rise, then the plan's schedule."""
    rise = max(1, round(plan.warm_up_ratio * steps))

    def ratio(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        done = min(1.0, (step - rise) / max(1, steps - rise))
        falling = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}
        return max(MINIMUM_RATIO, falling[plan.schedule])

    return ratio


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases, norms and other vectors do not."""
    kinds: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in network.parameters():
        if parameter.requires_grad:
            kinds[parameter.dim() > 1].append(parameter)
    return [{"params": kinds[True]}, {"params": kinds[False], "weight_decay": 0.0}]


def shuffled(count: int, batch: int, rng: np.random.Generator) -> list[Rows]:
    """Every row once, by lot, in batches of `batch`; the last may be smaller."""
    order = rng.permutation(count)
    return [order[start : start + batch] for start in range(0, count, batch)]


def bucketed(lengths: Rows, batch: int, rng: np.random.Generator, *, window: int = 50) -> list[Rows]:
    """As `shuffled`, with rows of like length together, so that little of a batch is padding."""
    order = rng.permutation(len(lengths))
    sorted_windows = [part[np.argsort(lengths[part], kind="stable")] for part in _cut(order, batch * window)]
    batches = [rows for part in sorted_windows for rows in _cut(part, batch)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _cut(rows: Rows, size: int) -> Iterator[Rows]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _share(batches: Sequence[Rows], rank: int, world: int) -> list[Rows]:
    """This process's batches: equally many for each; the last ones are filled up from the first."""
    count = math.ceil(len(batches) / world)
    return [batches[(rank + world * i) % len(batches)] for i in range(count)]


def _share_first(values: Iterable[Tensor], world: int) -> None:
    """Give every process what the first has: norms' running statistics, and so scores, are each one's own."""
    if world > 1:
        for value in values:
            distributed.broadcast(value, 0)
        distributed.barrier()  # the first may end next, and what is not yet read would be lost with it


def _join() -> tuple[int, int]:
    """Rank and number of processes, as torchrun says; the group is joined on the first call."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo")
        atexit.register(_leave)
    return int(os.environ.get("RANK", "0")), world


def _leave() -> None:
    """End the group's threads before the interpreter ends: one that then still lets go of a tensor aborts it.

    The group lives as long as anything holds it, and a wrapped network holds it in a cycle.
    """
    gc.collect()
    distributed.destroy_process_group()


def _optimizer(plan: Plan, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    for group in groups:
        group["lr"] = plan.rate * group.pop("rate_ratio", 1.0)
        group.setdefault("weight_decay", plan.weight_decay)
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups)


def _resume(
    folder: Path, network: nn.Module, optimizer: Any, schedule: Any
) -> tuple[History, dict[str, Tensor], int]:
    path = folder / "last.pt"
    if not path.exists():
        return History(), network.state_dict(), 0
    kept = torch.load(path, map_location=DEVICE, weights_only=True)
    network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    schedule.load_state_dict(kept["schedule"])
    history = History(**kept["history"])
    print(f"going on after epoch {len(history.losses)} ({path})", flush=True)
    return history, kept["best"], len(history.losses)


def _keep(
    folder: Path, network: nn.Module, optimizer: Any, schedule: Any, history: History, best: dict[str, Tensor]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "history": asdict(history),
        "best": best,
    }
    fresh = folder / "last.pt.new"
    torch.save(state, fresh)
    fresh.replace(folder / "last.pt")
    (folder / "history.json").write_text(json.dumps(asdict(history), indent=1) + "\n")
