"""The embedded backend: ONNX Runtime inside the gateway, so that a fresh machine needs nothing else."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import structlog
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from gateway.backends.repository import onnx_file
from gateway.contract import Contract, check_reply
from gateway.errors import BadReply, InvalidTensor, ModelFailed, RejectedByBackend
from gateway.inference import InferRequest, InferResponse, PoolKey, Tensor, split_bytes

BACKEND = "onnxruntime"

_log = structlog.get_logger()


class OnnxRuntime:
    """Answers from ONNX files, on a thread for each core.

    Args:
        contracts: by model name.
        repository: the folder with the file of every variant.
        threads: threads of one inference.
    """

    def __init__(self, contracts: Mapping[str, Contract], *, repository: Path, threads: int = 1) -> None:
        self._contracts = contracts
        self._repository = repository
        self._threads = threads
        self._executor = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix=BACKEND)
        self._sessions: dict[PoolKey, onnxruntime.InferenceSession] = {}
        self._loading: dict[PoolKey, asyncio.Future[bool]] = {}

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            ModelFailed: ONNX Runtime failed.
            BadReply: the network's outputs do not fit the contract.
            RejectedByBackend: a BYTES element is not text, or the network refuses an input's size.
        """
        contract = self._contracts[request.model]
        loop = asyncio.get_running_loop()
        outputs = await loop.run_in_executor(self._executor, self._run, request)
        try:
            check_reply(contract, request, outputs)
        except InvalidTensor as error:
            raise BadReply(str(error)) from error
        return InferResponse(
            request.model, request.version, outputs, variant=request.variant, backend=BACKEND
        )

    async def is_ready(self, model: str, version: str, variant: str, /) -> bool:
        """Load the model at the first question; ready when it could be."""
        key = PoolKey(model, version, variant)
        if key in self._sessions:
            return True
        loading = self._loading.get(key)
        if loading is None:
            loop = asyncio.get_running_loop()
            loading = self._loading[key] = loop.run_in_executor(self._executor, self._load, key)
            loading.add_done_callback(lambda _: self._loading.pop(key))
        # A check that is given up leaves the load to the next one, which would else begin it once more.
        return await asyncio.shield(loading)

    def forget(self, pools: Iterable[PoolKey]) -> None:
        """Give up the sessions of all pools but these."""
        for key in {*self._sessions}.difference(pools):
            self._sessions.pop(key)

    async def aclose(self) -> None:
        """End the threads; inferences under way finish."""
        self._executor.shutdown(wait=False)

    def _load(self, key: PoolKey) -> bool:
        path = onnx_file(self._repository, key)
        if not path.exists():
            return False
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no class but this one
            _log.warning("onnx_file_not_loaded", file=str(path), error=str(error))
            return False
        self._sessions[key] = session
        return True

    def _run(self, request: InferRequest) -> tuple[Tensor, ...]:
        contract = self._contracts[request.model]
        names = request.outputs or tuple(spec.name for spec in contract.outputs)
        feeds = {tensor.name: _value(tensor) for tensor in request.inputs}
        try:
            values = self._sessions[request.pool].run(list(names), feeds)
        except InvalidArgument as error:  # a size that the contract leaves open and the network does not
            raise RejectedByBackend(f"ONNX Runtime: {error}") from error
        except Exception as error:  # ONNX Runtime's errors share no class but this one
            raise ModelFailed(f"ONNX Runtime: {error}") from error
        datatypes = {spec.name: spec.datatype for spec in contract.outputs}
        return tuple(_tensor(name, datatypes[name], value) for name, value in zip(names, values, strict=True))


def _value(tensor: Tensor) -> Any:
    if tensor.datatype != "BYTES":
        return tensor.numpy()
    try:
        texts = [item.decode() for item in split_bytes(tensor)]
    except UnicodeDecodeError as error:
        text = (
            f"tensor '{tensor.name}': expected UTF-8 text, which ONNX Runtime's strings are, got other bytes"
        )
        raise RejectedByBackend(text) from error
    return np.array(texts, dtype=object).reshape(tensor.shape)


def _tensor(name: str, datatype: str, value: Any) -> Tensor:
    if datatype != "BYTES":
        return Tensor.of(name, datatype, value)
    return Tensor.of_bytes(name, value.shape, [str(item).encode() for item in value.ravel()])
