"""Closed-loop load for the tests: many connections, each with one request in flight, every answer checked."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gateway.backends import engine_model_name
from tests.serving import BUILT, MODEL, heldout

TOLERANCE = 1e-3
"""How far a probability may be from the reference: far below what another image's answer would be."""


@dataclass(slots=True)
class Outcome:
    """What came of a load.

    Attributes:
        failed: what was said instead of the right answer, by request.
        backends: how many answers came from each backend.
        seconds: every request's duration.
    """

    failed: dict[int, str] = field(default_factory=dict)
    backends: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


def distinct_images(count: int, seed: int = 7) -> NDArray[np.float32]:
    """FP32 [count, 28, 28, 1]: held-out digits, each with noise of its own, so that no two are equal."""
    images, _ = heldout()
    rng = np.random.default_rng(seed)
    rows = images[rng.integers(0, len(images), count)]
    noise = rng.uniform(0, 0.02, rows.shape).astype(np.float32)
    noisy: NDArray[np.float32] = np.clip(rows + noise, 0, 1, dtype=np.float32)
    return noisy


def reference(images: NDArray[np.float32], variant: str = "fp32") -> NDArray[np.float32]:
    """The right answers, FP32 [count, 10], from the ONNX file that the embedded engine has."""
    path = BUILT / "onnx" / engine_model_name(MODEL, variant) / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"image": part})[0] for part in np.array_split(images, len(images) // 64 + 1)]
    return np.concatenate(parts)


async def drive(
    address: str,
    images: NDArray[np.float32],
    *,
    connections: int,
    events: Mapping[int, Callable[[], Awaitable[None]]] | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Send every image once, as a binary OIP REST request, and check every answer. The client never retries.

    Args:
        address: host:port of the gateway's HTTP.
        images: FP32 [count, 28, 28, 1].
        connections: how many at once.
        events: what to do when so many requests have been sent, while the others are in flight.
        headers: of each request, beside its own.
    """
    expected = await asyncio.to_thread(reference, images)  # engines of the caller may be in this loop
    outcome = Outcome()
    todo = iter(range(len(images)))
    happening: list[asyncio.Task[None]] = []

    async def work() -> None:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        for index in todo:
            if events and index in events:
                happening.append(asyncio.ensure_future(events[index]()))
            started = time.monotonic()
            writer.write(binary_request(images[index], headers))
            try:
                status, replied, body = await read_reply(reader)
            except (OSError, asyncio.IncompleteReadError) as error:
                outcome.failed[index] = repr(error)
                reader, writer = await asyncio.open_connection(*address.split(":"))
                continue
            outcome.seconds.append(time.monotonic() - started)
            backend = replied.get("x-inferway-backend", "none")
            outcome.backends[backend] = outcome.backends.get(backend, 0) + 1
            if status != 200 or not _is_right(replied, body, expected[index]):
                outcome.failed[index] = f"{status} {body[:200]!r} from {backend}"
        writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    await asyncio.gather(*happening)
    return outcome


def binary_request(image: NDArray[np.float32], headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """One image, FP32 [28, 28, 1], as a whole HTTP request: binary OIP REST, binary reply."""
    return binary_oip_request(MODEL, "image", "FP32", image[None], headers)


def binary_oip_request(
    model: str,
    name: str,
    datatype: str,
    value: NDArray[Any],
    headers: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """A model's one input, with its batch axis, as a whole HTTP request: binary OIP REST, binary reply."""
    data = value.tobytes()
    tensor = {
        "name": name,
        "datatype": datatype,
        "shape": list(value.shape),
        "parameters": {"binary_data_size": len(data)},
    }
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lines: Sequence[str] = (
        f"POST /v2/models/{model}/infer HTTP/1.1",
        "host: gateway",
        f"inference-header-content-length: {len(header)}",
        f"content-length: {len(header) + len(data)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + header + data


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body of one HTTP reply."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(head[0].split()[1]), headers, body


def _is_right(headers: Mapping[str, str], body: bytes, expected: NDArray[np.float32]) -> bool:
    start = int(headers.get("inference-header-content-length", len(body)))
    row = np.frombuffer(body[start:], "<f4")
    return row.shape == expected.shape and bool(np.abs(row - expected).max() <= TOLERANCE)
