"""Our messages hold against the official descriptors, which tritonclient carries."""

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from tritonclient.grpc import model_config_pb2, service_pb2

from services.protocol import open_inference_pb2

OURS = open_inference_pb2.DESCRIPTOR
OFFICIAL_FILES = (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR)


def official_message(name: str) -> Descriptor:
    found: list[Descriptor] = [
        file.message_types_by_name[name] for file in OFFICIAL_FILES if name in file.message_types_by_name
    ]
    return found[0]


def facts(field: FieldDescriptor) -> tuple[object, ...]:
    """All that decides a field's bytes and its meaning, but for the package."""
    kind = field.message_type or field.enum_type
    type_name = kind.full_name.removeprefix(f"{kind.file.package}.") if kind else ""
    oneof = field.containing_oneof.name if field.containing_oneof else ""
    return (field.name, field.number, field.type, field.is_repeated, type_name, oneof)


def pairs() -> Iterator[tuple[Descriptor, Descriptor]]:
    """Every message of ours, the nested ones too, with the official one."""
    waiting = [(message, official_message(name)) for name, message in OURS.message_types_by_name.items()]
    while waiting:
        ours, official = waiting.pop()
        yield ours, official
        waiting += [(nested, official.nested_types_by_name[nested.name]) for nested in ours.nested_types]


@pytest.mark.parametrize(
    ("ours", "official"), [pytest.param(*pair, id=pair[0].full_name) for pair in pairs()]
)
def test_every_field_has_the_official_number_name_and_type(ours: Descriptor, official: Descriptor) -> None:
    official_fields = {field.name: facts(field) for field in official.fields}
    for field in ours.fields:
        assert facts(field) == official_fields[field.name]


def enums() -> Iterator[tuple[EnumDescriptor, EnumDescriptor]]:
    for name, enum in OURS.enum_types_by_name.items():
        yield enum, model_config_pb2.DESCRIPTOR.enum_types_by_name[name]
    for ours, official in pairs():
        for enum in ours.enum_types:
            yield enum, official.enum_types_by_name[enum.name]


def test_every_enum_has_the_official_values() -> None:
    for ours, official in enums():
        assert {v.name: v.number for v in ours.values} == {v.name: v.number for v in official.values}


def test_every_method_takes_and_gives_the_official_messages() -> None:
    official = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in OURS.services_by_name["GRPCInferenceService"].methods:
        theirs = official.methods_by_name[method.name]
        assert (method.input_type.name, method.output_type.name) == (
            theirs.input_type.name,
            theirs.output_type.name,
        )
        assert (method.client_streaming, method.server_streaming) == (
            theirs.client_streaming,
            theirs.server_streaming,
        )
