"""Locations of external data are found wherever ONNX may name them, without a look at the weights."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, NodeProto, SparseTensorProto, TensorProto, helper

from gateway.backends.external_data import external_locations

END_OF_GROUP, GROUP = b"\x9c\x06", b"\x9b\x06"  # of field 99


def external(location: str, name: str = "by") -> TensorProto:
    """A tensor whose weights lie elsewhere; the order of its entries is not the usual one."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def constant(tensor: TensorProto) -> NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def graph(*nodes: NodeProto, initializers: tuple[TensorProto, ...] = ()) -> onnx.GraphProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    return helper.make_graph(list(nodes), "g", [x], [y], list(initializers))


def model(whole: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def within(tensor: TensorProto) -> NodeProto:
    """A node with a graph in a graph that has the tensor."""
    inner = helper.make_node("If", ["x"], ["y"], then_branch=graph(initializers=(tensor,)))
    return helper.make_node("If", ["x"], ["y"], then_branch=graph(inner))


def sparse(tensor: TensorProto) -> onnx.ModelProto:
    whole = graph()
    whole.sparse_initializer.append(SparseTensorProto(values=tensor, indices=external("indices"), dims=[1]))
    return model(whole)


def functional(tensor: TensorProto) -> onnx.ModelProto:
    whole = model(graph())
    ids = [helper.make_opsetid("", 17)]
    given = helper.make_attribute("t", external("default"))
    function = helper.make_function(
        "own", "F", ["x"], ["c"], [constant(tensor)], ids, attribute_protos=[given]
    )
    whole.functions.append(function)
    return whole


def lists(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Own", ["x"], ["y"])
    node.attribute.append(AttributeProto(name="a", type=AttributeProto.TENSORS, tensors=[tensor]))
    node.attribute.append(
        AttributeProto(name="b", type=AttributeProto.GRAPHS, graphs=[graph(constant(external("g")))])
    )
    return model(graph(node))


PLACES: dict[str, tuple[Callable[[TensorProto], onnx.ModelProto], set[str]]] = {
    "initializer": (lambda tensor: model(graph(initializers=(tensor,))), set()),
    "constant": (lambda tensor: model(graph(constant(tensor))), set()),
    "graph in a graph": (lambda tensor: model(graph(within(tensor))), set()),
    "sparse initializer": (sparse, {"indices"}),
    "function": (functional, {"default"}),
    "lists": (lists, {"g"}),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_location_is_found_wherever_a_tensor_may_be(tmp_path: Path, place: str) -> None:
    make, others = PLACES[place]
    file = tmp_path / "model.onnx"
    file.write_bytes(make(external("weights/ä.bin")).SerializeToString())
    assert set(external_locations(file)) == {"weights/ä.bin", *others}


def test_what_onnx_writes_is_read_and_each_file_told_once(tmp_path: Path) -> None:
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [512], bytes(4 * 512), raw=True) for name in "ab"]
    file = tmp_path / "model.onnx"
    onnx.save(model(graph(initializers=(*weights,))), file, save_as_external_data=True, location="w.bin")
    assert (tmp_path / "w.bin").stat().st_size >= 2 * 4 * 512
    assert external_locations(file) == ("w.bin",)


def test_weights_in_the_file_itself_are_no_location(tmp_path: Path) -> None:
    decoy = external("elsewhere").SerializeToString()  # as bytes of a weight
    weight = TensorProto(name="by", data_type=TensorProto.UINT8, dims=[len(decoy)], raw_data=decoy)
    file = tmp_path / "model.onnx"
    file.write_bytes(model(graph(initializers=(weight,))).SerializeToString())
    assert external_locations(file) == ()


def test_a_path_ends_where_whoever_opens_it_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(model(graph(initializers=(external("w.bin\0x"),))).SerializeToString())
    assert external_locations(file) == ("w.bin",)


def test_what_protobuf_passes_over_hides_nothing(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    unknown = GROUP + END_OF_GROUP + b"\x99\x06" + bytes(8) + b"\x9d\x06" + bytes(4)
    content = unknown + model(graph(initializers=(external("w.bin"),))).SerializeToString()
    assert onnx.ModelProto.FromString(content).graph.initializer
    file.write_bytes(content)
    assert external_locations(file) == ("w.bin",)


WHOLE = model(graph(constant(external("a")), initializers=(external("b"),))).SerializeToString()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.integers(0, len(WHOLE)).map(lambda cut: WHOLE[:cut]))
def test_any_bytes_are_read_to_an_end(tmp_path: Path, noise: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(noise)
    assert set(external_locations(file)) <= {"a", "b"}
