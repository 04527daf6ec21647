"""The embedded backend: ONNX Runtime inside the gateway, so that a fresh machine needs nothing else."""

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from gateway.backends import CannotServe
from gateway.backends.external_data import external_locations
from gateway.backends.repository import model_files
from gateway.backends.served_tensors import ServedTensor, check_served
from gateway.contract import Contract, check_reply
from gateway.errors import BadReply, InvalidTensor, ModelFailed, RejectedByBackend
from gateway.file_watch import FileState, file_state
from gateway.inference import NUMPY_TYPES, InferRequest, InferResponse, PoolKey, Tensor, split_bytes

BACKEND = "onnxruntime"
DATATYPES = {
    "tensor(bool)": "BOOL", "tensor(string)": "BYTES", "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32", "tensor(uint64)": "UINT64", "tensor(int8)": "INT8", "tensor(int16)": "INT16",
    "tensor(int32)": "INT32", "tensor(int64)": "INT64",
    "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64",
}  # fmt: skip
"""ONNX Runtime's name of a type to OIP datatype. It gives numpy no bfloat16, so that cannot be served."""
_DATATYPES_OF_NUMPY = {dtype: datatype for datatype, dtype in NUMPY_TYPES.items()}


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
        self._unusable: dict[PoolKey, tuple[Sequence[FileState], str]] = {}

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
        """Load the model at the first question; ready when it could be.

        Raises:
            CannotServe: ONNX Runtime cannot load the file, or it is not what the contract says.
        """
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
        files = model_files(self._repository, key)
        states = [file_state(file) for file in files]
        if states[0] is None:
            return False
        known, problem = self._unusable.get(key, ([], ""))
        if known == states:  # to load the same files again would end the same
            raise CannotServe(problem)
        try:
            self._sessions[key] = self._open(files, self._contracts[key.model])
        except CannotServe as error:
            self._unusable[key] = states, str(error)
            raise
        return True

    def _open(self, files: Sequence[Path], contract: Contract) -> onnxruntime.InferenceSession:
        path = files[0]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        try:
            # Left to itself it maps them: who writes one over changes answers at once, or ends this process.
            locations = [name for name in external_locations(path) if path.parent / name in files]
            weights = [(path.parent / name).read_bytes() for name in locations]
            options.add_external_initializers_from_files_in_memory(locations, weights, [*map(len, weights)])
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no class but this one
            raise CannotServe(f"{path}: ONNX Runtime cannot load it: {error}") from error
        inputs, outputs = map(_served, session.get_inputs()), map(_served, session.get_outputs())
        check_served(contract, inputs, outputs, where=str(path))
        return session

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
        return tuple(_tensor(name, value) for name, value in zip(names, values, strict=True))


def _served(argument: Any) -> ServedTensor:
    """An input or output of a session. ONNX Runtime says [] of a scalar, and of what has no shape."""
    shape = tuple(size if isinstance(size, int) else -1 for size in argument.shape) or None
    return ServedTensor(argument.name, DATATYPES.get(argument.type, argument.type), shape)


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


def _tensor(name: str, value: Any) -> Tensor:
    """An output with the datatype that it has, which need not be the contract's.

    Raises:
        BadReply: it is none that OIP has: a sequence or a map.
    """
    datatype = _DATATYPES_OF_NUMPY.get(value.dtype) if isinstance(value, np.ndarray) else None
    if datatype is not None:
        return Tensor.of(name, datatype, value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return Tensor.of_bytes(name, value.shape, [str(item).encode() for item in value.ravel()])
    raise BadReply(f"ONNX Runtime answered output '{name}' with a {type(value).__name__}, not with a tensor")
