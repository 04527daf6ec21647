"""Parameters of the Open Inference Protocol's messages: used towards clients and towards Triton alike."""

from collections.abc import Mapping, MutableMapping

from gateway.inference import Parameter
from services.protocol.open_inference_pb2 import InferParameter

_INT64_MAX = 2**63 - 1


def read_parameters(parameters: Mapping[str, InferParameter]) -> dict[str, Parameter]:
    """Plain values by name; a parameter that holds nothing is left out."""
    chosen = ((name, value, value.WhichOneof("parameter_choice")) for name, value in parameters.items())
    return {name: getattr(value, choice) for name, value, choice in chosen if choice is not None}


def write_parameters(
    values: Mapping[str, Parameter], parameters: MutableMapping[str, InferParameter]
) -> None:
    """Put plain values into a message's map of parameters."""
    for name, value in values.items():
        match value:
            case bool():
                parameters[name].bool_param = value
            case int():
                if value > _INT64_MAX:
                    parameters[name].uint64_param = value
                else:
                    parameters[name].int64_param = value
            case float():
                parameters[name].double_param = value
            case str():
                parameters[name].string_param = value
