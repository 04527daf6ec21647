r"""What runs inside TorchServe's worker: tensors in, one forward pass for the whole batch, tensors out.

Packed into every model's .mar beside the model's contract, from which it takes names, datatypes and shapes:

    torch-model-archiver --model-name NAME --version 1 --serialized-file NETWORK.pt --handler handler.py \
        --extra-files MODEL_FOLDER/model.yaml --config-file model-config.yaml --export-path STORE

It imports only what a worker has: torch, numpy, PyYAML (TorchServe needs it too), the standard library.
The wire:

    request   input["header"] = {"inputs": [{"name", "datatype", "shape"}], "outputs": [names; empty: all]}
              input[<tensor name>] = the tensor's raw bytes, as the Open Inference Protocol lays them out
    reply     4-byte little-endian length of a JSON header, the header, each output's raw bytes in its order
              header: {"outputs": [{"name", "datatype", "shape"}]}; for a request that was not answered
              {"outputs": [], "error": text, "blame": "input" or "server"}

TorchServe fails a whole batch when its handler raises, and over gRPC no item has a status of its own. So a
bad item gets an error in a reply that TorchServe takes for a good one, and its neighbours never notice.
"""

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

HEADER = "header"
DATATYPES = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""OIP datatypes that torch and numpy both have."""
WARM_UP_SIZE = 8
"""Of a padded axis in the warm-up, where its maximum allows."""
WARM_UP_RUNS = 3
"""TorchScript watches the first run and optimizes in the second; neither is to be a client's."""


class BadItem(ValueError):
    """One request that does not fit the contract; the text is for its caller."""


@dataclass(frozen=True, eq=False)
class Item:
    """One request: its place in TorchServe's batch, inputs in the contract's order, outputs wanted."""

    position: int
    tensors: tuple[np.ndarray, ...]
    outputs: tuple[str, ...]


class TensorHandler:
    """One model in one worker: `initialize` once, then `handle` once a batch."""

    def initialize(self, context: Any) -> None:
        """Load contract and TorchScript module, and run it, so that a broken one fails here.

        Raises:
            ValueError: the contract asks for what this handler cannot do; the worker does not start.
        """
        folder = Path(context.system_properties["model_dir"])
        contract = yaml.safe_load((folder / "model.yaml").read_text())
        self.inputs: list[dict[str, Any]] = contract["inputs"]
        self.outputs: dict[str, str] = {spec["name"]: spec["datatype"] for spec in contract["outputs"]}
        self.max_batch_size = int(contract.get("max_batch_size", 0))
        for spec in (*self.inputs, *contract["outputs"]):
            if spec["datatype"] not in DATATYPES or spec["name"] == HEADER:
                raise ValueError(f"TorchServe cannot serve a {spec['datatype']} called '{spec['name']}'")
        torch.set_num_threads(int((context.model_yaml_config or {}).get("threads", 1)))
        gpu = context.system_properties.get("gpu_id")
        self.device = "cpu" if gpu is None or not torch.cuda.is_available() else f"cuda:{gpu}"
        weights = folder / context.manifest["model"]["serializedFile"]
        self.module = torch.jit.load(str(weights), map_location=self.device).eval()
        # an output's open dimension may follow the padding, and nobody could tell which part of it to cut off
        outputs_are_fixed = all(-1 not in spec["shape"] for spec in contract["outputs"])
        self.padded: dict[str, Mapping[str, Any]] = {
            spec["name"]: spec["padded"] for spec in self.inputs if outputs_are_fixed and spec.get("padded")
        }
        zeros = tuple(map(self._zeros, self.inputs))
        for _ in range(WARM_UP_RUNS):
            self._forward([zeros])

    def _zeros(self, spec: Mapping[str, Any]) -> np.ndarray:
        """A small input, at batch 1: an open dimension is 1, or a few where it may be padded."""
        shape = [max(size, 1) for size in spec["shape"]]
        if padded := self.padded.get(spec["name"]):
            shape[padded.get("axis", 0)] = min(WARM_UP_SIZE, padded["maximum"])
        return np.zeros([1, *shape] if self.max_batch_size else shape, DATATYPES[spec["datatype"]])

    def handle(self, batch: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Answer a batch of `input` maps: one reply for each, in the same order."""
        replies: dict[int, bytes] = {}
        items = []
        for position, parameters in enumerate(batch):
            try:
                items.append(self._parse(position, parameters))
            except BadItem as error:
                replies[position] = refuse(str(error), blame="input")
        for group in self._groups(items):
            replies |= self._answer(group)
        return [replies[position] for position in range(len(batch))]

    def _parse(self, position: int, parameters: Mapping[str, Any]) -> Item:
        try:
            header = json.loads(parameters[HEADER])
            sent = {tensor["name"]: tensor for tensor in header["inputs"]}
            outputs = tuple(header.get("outputs") or self.outputs)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadItem(f"'{HEADER}' is not a JSON object that describes the tensors: {error!r}") from error
        known = [spec["name"] for spec in self.inputs]
        if set(sent) != set(known):
            raise BadItem(f"expected the inputs {known}, got {list(sent)}")
        if unknown := [name for name in outputs if name not in self.outputs]:
            raise BadItem(f"expected outputs among {list(self.outputs)}, got {unknown}")
        tensors = tuple(self._tensor(spec, sent[spec["name"]], parameters) for spec in self.inputs)
        if self.max_batch_size and len({len(tensor) for tensor in tensors}) > 1:
            raise BadItem("the inputs differ in batch size")
        return Item(position, tensors, outputs)

    def _tensor(
        self, spec: Mapping[str, Any], sent: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> np.ndarray:
        """One input, checked against the contract: datatype, shape, batch size, byte count."""
        shape: Any = sent.get("shape")
        name, datatype = spec["name"], sent.get("datatype")
        expected = [-1, *spec["shape"]] if self.max_batch_size else spec["shape"]
        if datatype != spec["datatype"] or not _fits(shape, expected):
            wanted = f"{spec['datatype']} {expected}"
            raise BadItem(f"tensor '{name}': expected {wanted}, got {datatype} {shape}")
        if self.max_batch_size and not 1 <= shape[0] <= self.max_batch_size:
            raise BadItem(f"tensor '{name}': expected a batch of 1 to {self.max_batch_size}, got {shape[0]}")
        padded = spec.get("padded")
        if padded and shape[padded.get("axis", 0) - len(spec["shape"])] > padded["maximum"]:
            raise BadItem(f"tensor '{name}': expected at most {padded['maximum']} in a row, got {shape}")
        dtype, data = DATATYPES[datatype], parameters.get(name, b"")
        size = math.prod(shape) * dtype.itemsize
        if len(data) != size:
            raise BadItem(f"tensor '{name}': expected {size} bytes for {datatype} {shape}, got {len(data)}")
        return np.frombuffer(data, dtype).reshape(shape)

    def _groups(self, items: Iterable[Item]) -> list[list[Item]]:
        """Cut the batch into forward passes: shapes that join, at most `max_batch_size` rows each."""
        groups: list[list[Item]] = []
        open_groups: dict[tuple[tuple[int, ...], ...], tuple[list[Item], int]] = {}
        for item in items:
            shapes = tuple(map(self._joins, self.inputs, item.tensors))
            rows = len(item.tensors[0]) if self.max_batch_size else 1
            group, filled = open_groups.get(shapes, ([], 0))
            if not group or filled + rows > self.max_batch_size:
                group, filled = [], 0
                groups.append(group)
            group.append(item)
            open_groups[shapes] = (group, filled + rows)
        return groups

    def _joins(self, spec: Mapping[str, Any], tensor: np.ndarray) -> tuple[int, ...]:
        """What two inputs need to have in common to join: the shape without the batch and the padded axis."""
        shape = list(tensor.shape[1:])
        if padded := self.padded.get(spec["name"]):
            shape[padded.get("axis", 0)] = -1
        return tuple(shape)

    def _answer(self, group: Sequence[Item]) -> dict[int, bytes]:
        """Run one group; after a failure each of its items alone, so that only the guilty one fails."""
        try:
            answers = self._forward([item.tensors for item in group])
        except Exception as error:  # noqa: BLE001 - a module may raise anything at all
            if len(group) > 1:
                return {position: reply for item in group for position, reply in self._answer([item]).items()}
            return {group[0].position: refuse(f"the model failed: {error}", blame="server")}
        return {item.position: self._reply(item, answer) for item, answer in zip(group, answers, strict=True)}

    def _forward(self, batch: Sequence[tuple[np.ndarray, ...]]) -> list[dict[str, np.ndarray]]:
        """Join along axis 0, run, split: the named outputs of each member of the batch."""
        joined = list(map(self._join, self.inputs, zip(*batch, strict=True)))
        with torch.inference_mode():
            result = self.module(*(torch.tensor(tensor, device=self.device) for tensor in joined))
        results = result if isinstance(result, (tuple, list)) else (result,)
        named = {name: value.cpu().numpy() for name, value in zip(self.outputs, results, strict=True)}
        if len(batch) == 1:
            return [named]
        ends = np.cumsum([len(tensors[0]) for tensors in batch])[:-1]
        split = {name: np.split(value, ends) for name, value in named.items()}
        return [{name: parts[index] for name, parts in split.items()} for index in range(len(batch))]

    def _join(self, spec: Mapping[str, Any], parts: Sequence[np.ndarray]) -> np.ndarray:
        """One input of all members, behind each other, each filled up to the longest."""
        if len(parts) == 1:
            return parts[0]
        if padded := self.padded.get(spec["name"]):
            axis = padded.get("axis", 0) + 1
            longest = max(part.shape[axis] for part in parts)
            rest = [(0, 0)] * parts[0].ndim
            parts = [
                np.pad(
                    part,
                    [*rest[:axis], (0, longest - part.shape[axis]), *rest[axis + 1 :]],
                    constant_values=padded.get("value", 0),
                )
                for part in parts
            ]
        return np.concatenate(parts)

    def _reply(self, item: Item, answer: Mapping[str, np.ndarray]) -> bytes:
        outputs = [
            {"name": name, "datatype": self.outputs[name], "shape": answer[name].shape}
            for name in item.outputs
        ]
        data = (answer[name].astype(DATATYPES[self.outputs[name]]).tobytes() for name in item.outputs)
        return frame({"outputs": outputs}, *data)


def frame(header: Mapping[str, Any], *data: bytes) -> bytes:
    """A reply: header length, header, data."""
    text = json.dumps(header).encode()
    return b"".join((struct.pack("<I", len(text)), text, *data))


def refuse(message: str, *, blame: str) -> bytes:
    """The reply of a request that gets no tensors; `blame` is `input` or `server`."""
    return frame({"outputs": [], "error": message, "blame": blame})


def _fits(shape: Any, expected: Sequence[int]) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) == len(expected)
        and all(isinstance(size, int) and size >= 0 for size in shape)
        and all(want in (-1, size) for size, want in zip(shape, expected, strict=True))
    )


_SERVICE = TensorHandler()


def handle(batch: Sequence[Mapping[str, Any]] | None, context: Any) -> list[bytes] | None:
    """What TorchServe calls: once without a batch when the worker starts, then once a batch."""
    if batch is None:
        _SERVICE.initialize(context)
        return None
    return _SERVICE.handle(batch)
