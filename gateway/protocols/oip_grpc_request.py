"""OIP gRPC's ModelInferRequest: raw and typed contents, parameters and the outputs asked for.

See https://github.com/kserve/open-inference-protocol (inference_grpc) and Triton's extensions. Contents are
raw for all inputs or typed for all; as in Triton, FP16 and BF16 come only raw.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gateway.contract import Contract
from gateway.errors import InvalidTensor, MalformedBody, Unsupported
from gateway.inference import Parameter, Tensor
from gateway.oip_messages import read_parameters
from gateway.protocols.oip_classification import check_classifiable
from gateway.protocols.oip_fields import check_parameter_count
from services.protocol.open_inference_pb2 import InferParameter, ModelInferRequest

EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"
"""The one `triton_` parameter that callers may send. It is for models that give many replies to a request, of
which there are none here: taken, and not passed on."""

_TYPED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "BOOL": ("bool_contents", "B"),
        "INT8": ("int_contents", "b"),
        "INT16": ("int_contents", "h"),
        "INT32": ("int_contents", "i"),
        "INT64": ("int64_contents", "q"),
        "UINT8": ("uint_contents", "B"),
        "UINT16": ("uint_contents", "H"),
        "UINT32": ("uint_contents", "I"),
        "UINT64": ("uint64_contents", "Q"),
        "FP32": ("fp32_contents", "f"),
        "FP64": ("fp64_contents", "d"),
        "BYTES": ("bytes_contents", ""),
    },
)
"""Datatype to the field that holds it and the code of `array`, which refuses what is out of range."""

_KNOWN_PARAMETERS: Mapping[str, tuple[type, str]] = MappingProxyType(
    {
        "timeout": (int, "microseconds as a non-negative integer"),
        "priority": (int, "a non-negative integer"),
        "variant": (str, "a string"),
    },
)


@dataclass(slots=True)
class OipMessage:
    """What a ModelInferRequest says.

    Attributes:
        inputs: the tensors; not yet compared with the contract.
        outputs: the names of the outputs asked for, in order; empty means all.
        classes: of outputs asked for as classes, how many.
        parameters: of the request, the gateway's own ones included.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    classes: Mapping[str, int]
    parameters: Mapping[str, Parameter]


def read_infer_message(message: ModelInferRequest, contract: Contract) -> OipMessage:
    """Take a request apart.

    Raises:
        InvalidTensor: contents that do not fit their tensor, or an output that cannot be classified.
        InvalidRequest: far more tensors than there are.
        MalformedBody: a parameter of the wrong type, or raw contents of another number than inputs.
        Unsupported: a tensor in shared memory.
    """
    contract.check_counts(inputs=len(message.inputs), outputs=len(message.outputs))
    classes = {}
    for output in message.outputs:
        _refuse_shared_memory(output.name, output.parameters)
        if "classification" in output.parameters:
            classes[output.name] = _class_count(output.name, output.parameters["classification"])
    for spec in contract.outputs:
        if spec.name in classes:
            check_classifiable(spec.name, spec.datatype)
    return OipMessage(
        inputs=_inputs(message, contract),
        outputs=tuple(dict.fromkeys(output.name for output in message.outputs)),
        classes=classes,
        parameters=_parameters(message.parameters),
    )


def _inputs(message: ModelInferRequest, contract: Contract) -> tuple[Tensor, ...]:
    raw: Sequence[bytes] = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        names = [tensor.name for tensor in message.inputs]
        raise MalformedBody(
            f"raw_input_contents: expected one for each of the inputs {names}, got {len(raw)}"
        )
    tensors = []
    for place, tensor in enumerate(message.inputs):
        _refuse_shared_memory(tensor.name, tensor.parameters)
        if not raw:
            contract.check_input(tensor.name, tensor.datatype, tuple(tensor.shape))
            tensors.append(_typed(tensor))
            continue
        if tensor.contents.ListFields():  # MLServer's clients send empty contents beside raw ones
            raise InvalidTensor(tensor.name, expected="raw or typed contents", got="both")
        tensors.append(Tensor(tensor.name, tensor.datatype, tuple(tensor.shape), raw[place]))
    return tuple(tensors)


def _typed(tensor: ModelInferRequest.InferInputTensor) -> Tensor:
    """The tensor of typed contents."""
    name, datatype, shape = tensor.name, tensor.datatype, tuple(tensor.shape)
    if datatype not in _TYPED:
        raise InvalidTensor(
            name, expected=f"a datatype of typed contents {list(_TYPED)}", got=f"'{datatype}'"
        )
    field, code = _TYPED[datatype]
    filled = [each.name for each, _ in tensor.contents.ListFields()]
    if filled not in ([], [field]):
        raise InvalidTensor(name, expected=f"{datatype} in '{field}' alone", got=str(filled))
    values = getattr(tensor.contents, field)
    try:
        read = (
            Tensor(name, datatype, shape, array(code, values).tobytes())
            if code
            else Tensor.of_bytes(name, shape, values)
        )
    except OverflowError as error:
        raise InvalidTensor(name, expected=f"numbers that fit {datatype}", got=str(error)) from error
    if len(values) != read.elements:
        raise InvalidTensor(
            name,
            expected=f"{read.elements} elements in '{field}' for shape {list(shape)}",
            got=f"{len(values)} elements",
        )
    return read


def _class_count(output: str, parameter: InferParameter) -> int:
    value = parameter.int64_param
    if not parameter.HasField("int64_param") or value < 1:
        raise MalformedBody(f"output '{output}': 'classification': expected a positive int64_param")
    return value


def _parameters(message: Mapping[str, InferParameter]) -> Mapping[str, Parameter]:
    check_parameter_count(len(message))
    parameters = read_parameters(message)
    parameters.pop(EMPTY_FINAL_RESPONSE, None)
    for name, value in parameters.items():
        if name.startswith("triton_"):
            raise MalformedBody(f"parameter '{name}': expected another name, since 'triton_' is reserved")
        kind, expected = _KNOWN_PARAMETERS.get(name, (type(value), ""))
        # Not isinstance: to Python a bool is an int.
        if type(value) is not kind or (expected and kind is int and int(value) < 0):
            raise MalformedBody(f"parameter '{name}': expected {expected}, got {value!r}")
    return parameters


def _refuse_shared_memory(name: str, parameters: Mapping[str, InferParameter]) -> None:
    if "shared_memory_region" in parameters:
        raise Unsupported(f"tensor '{name}': shared memory is not supported")
