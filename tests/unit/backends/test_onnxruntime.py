"""The embedded engine, over small networks made here."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data

from gateway.backends import CannotServe
from gateway.backends.onnxruntime import OnnxRuntime
from gateway.contract import Contract
from gateway.errors import BadReply, EndpointFailed, RejectedByBackend
from gateway.inference import PoolKey, Tensor, split_bytes
from tests.fakes import a_contract, a_request, settle

FILE = "adder/1/model.onnx"
REQUEST = a_request(version="1", variant="fp32")


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str], kind: int) -> None:
    """A network whose tensors are all of one kind and have a batch axis and one more."""
    sources, sinks = (
        [helper.make_tensor_value_info(name, kind, ["n", None]) for name in names]
        for names in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "small", sources, sinks)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def the_model(**changes: object) -> Contract:
    """`a_contract` with a second output."""
    outputs = [{"name": name, "datatype": "INT8", "shape": [2]} for name in ("copy", "negative")]
    return a_contract(**{"outputs": outputs, **changes})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of `fp32` in the repository in `tmp_path`; `int8` has none."""
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
async def engine(file: Path, tmp_path: Path) -> AsyncIterator[OnnxRuntime]:
    nodes = [
        helper.make_node("Identity", ["values"], ["copy"]),
        helper.make_node("Neg", ["values"], ["negative"]),
    ]
    save(file, nodes, ["values"], ["copy", "negative"], TensorProto.INT8)
    started = OnnxRuntime({"adder": the_model()}, repository=tmp_path)
    yield started
    await started.aclose()


async def test_an_answer_has_every_output_in_the_contracts_order(engine: OnnxRuntime) -> None:
    assert await engine.is_ready("adder", "1", "fp32")
    response = await engine(REQUEST)
    assert [(t.name, t.shape, bytes(t.data)) for t in response.outputs] == [
        ("copy", (1, 2), b"\x01\x02"),
        ("negative", (1, 2), b"\xff\xfe"),
    ]
    assert (response.version, response.variant, response.backend) == ("1", "fp32", "onnxruntime")


async def test_only_the_outputs_asked_for_come_in_the_order_asked_for(engine: OnnxRuntime) -> None:
    await engine.is_ready("adder", "1", "fp32")
    for outputs in (("negative",), ("negative", "copy")):
        response = await engine(a_request(version="1", variant="fp32", outputs=outputs))
        assert tuple(tensor.name for tensor in response.outputs) == outputs


async def test_a_batch_comes_back_as_a_batch(engine: OnnxRuntime) -> None:
    await engine.is_ready("adder", "1", "fp32")
    numbers = np.arange(6).reshape(3, 2)
    values = Tensor.of("values", "INT8", numbers)
    response = await engine(a_request(version="1", variant="fp32", inputs=(values,)))
    np.testing.assert_array_equal(response.outputs[1].numpy(), -numbers)


async def test_many_at_once_never_get_one_anothers_answers(engine: OnnxRuntime) -> None:
    await engine.is_ready("adder", "1", "fp32")
    inputs = [Tensor.of("values", "INT8", np.full((1, 2), number)) for number in range(64)]
    responses = await asyncio.gather(
        *(engine(a_request(version="1", variant="fp32", inputs=(tensor,))) for tensor in inputs)
    )
    assert [response.outputs[0].data for response in responses] == [tensor.data for tensor in inputs]


async def test_a_variant_without_a_file_is_not_ready(engine: OnnxRuntime, tmp_path: Path) -> None:
    assert not await engine.is_ready("adder", "1", "int8")
    (tmp_path / FILE).unlink()
    assert not await engine.is_ready("adder", "1", "fp32")


async def test_a_file_that_is_no_network_cannot_be_served_and_is_opened_once(
    engine: OnnxRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / FILE
    network = file.read_bytes()
    file.write_bytes(b"garbage")
    for _ in range(2):
        with pytest.raises(CannotServe, match=f"^{file}: ONNX Runtime cannot load it: .*INVALID_PROTOBUF"):
            await engine.is_ready("adder", "1", "fp32")
        monkeypatch.setattr("onnxruntime.InferenceSession", None)
    monkeypatch.undo()
    file.write_bytes(network)
    assert await engine.is_ready("adder", "1", "fp32")


def keep_outside(file: Path, location: str) -> None:
    """Let the network of `engine` add weights that lie there, in place of its negation."""
    network = onnx.load(file)
    network.graph.node[1].CopyFrom(helper.make_node("Add", ["values", "by"], ["negative"]))
    network.graph.initializer.append(
        TensorProto(name="by", data_type=TensorProto.INT8, dims=[2], raw_data=b"")
    )
    set_external_data(network.graph.initializer[0], location, offset=0, length=2)
    file.write_bytes(network.SerializeToString())


async def test_weights_beside_the_file_that_are_mended_are_loaded(engine: OnnxRuntime, file: Path) -> None:
    keep_outside(file, "by.bin")
    for content in (None, b"\x05"):
        if content is not None:
            file.with_name("by.bin").write_bytes(content)
        for _ in range(2):
            with pytest.raises(CannotServe, match=f"^{file}: ONNX Runtime cannot load it: "):
                await engine.is_ready("adder", "1", "fp32")
    file.with_name("by.bin").write_bytes(b"\x05\x06")
    assert await engine.is_ready("adder", "1", "fp32")
    assert bytes((await engine(REQUEST)).outputs[1].data) == b"\x06\x08"


async def test_weights_that_are_written_over_change_no_answer_of_what_was_loaded(
    engine: OnnxRuntime, file: Path
) -> None:
    keep_outside(file, "./by.bin")
    file.with_name("by.bin").write_bytes(b"\x05\x06")
    assert await engine.is_ready("adder", "1", "fp32")
    file.with_name("by.bin").write_bytes(b"\x07\x08")
    assert bytes((await engine(REQUEST)).outputs[1].data) == b"\x06\x08"


@pytest.mark.parametrize("location", ["../by.bin", "/by.bin", "link.bin"])
async def test_weights_out_of_the_files_folder_are_refused(
    engine: OnnxRuntime, file: Path, tmp_path: Path, location: str
) -> None:
    outside = file.parent.with_name("by.bin")
    outside.write_bytes(b"\x05\x06")
    file.with_name("link.bin").symlink_to(outside)
    keep_outside(file, str(tmp_path) + location if location[0] == "/" else location)
    with pytest.raises(CannotServe, match="External data path validation failed"):
        await engine.is_ready("adder", "1", "fp32")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": [("x", "INT8", [2])]}, "input 'x': it is in model.yaml, and not here; known .*: values"),
        ({"inputs": [("value", "INT8", [2])]}, "input 'value': .* did you mean 'values'"),
        ({"outputs": [("copi", "INT8", [2])]}, "output 'copi': .* did you mean 'copy'"),
        ({"outputs": [("copy", "INT32", [2])]}, r"'copy': it is INT8 \[-1, -1\] here, and INT32 \[-1, 2\]"),
        ({"inputs": [("values", "FP32", [2])]}, r"input 'values': it is INT8 .*, and FP32"),
        ({"inputs": [("values", "INT8", [2, 1])]}, r"input 'values': .*, and INT8 \[-1, 2, 1\]"),
        ({"max_batch_size": 0}, r"input 'values': .*, and INT8 \[2\] \(max_batch_size 0\)"),
    ],
)
async def test_a_network_that_is_not_what_the_contract_says_is_never_ready(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    keys = ("name", "datatype", "shape")
    for kind in {"inputs", "outputs"} & changes.keys():
        changes[kind] = [dict(zip(keys, spec, strict=True)) for spec in changes[kind]]
    other = OnnxRuntime({"adder": the_model(**changes)}, repository=tmp_path)
    with pytest.raises(CannotServe, match=says):
        await other.is_ready("adder", "1", "fp32")
    with pytest.raises(EndpointFailed):
        await other(REQUEST)
    await other.aclose()


async def test_numbers_keep_the_datatype_that_the_network_gave_them(engine: OnnxRuntime) -> None:
    await engine.is_ready("adder", "1", "fp32")
    outputs = [{"name": "copy", "datatype": "INT32", "shape": [2]}]
    engine._contracts = {"adder": the_model(outputs=outputs)}
    with pytest.raises(BadReply, match=r"expected INT32 \[1, 2\], got INT8"):
        await engine(REQUEST)


async def test_a_model_that_was_never_ready_fails_and_does_not_answer(engine: OnnxRuntime) -> None:
    with pytest.raises(EndpointFailed):
        await engine(REQUEST)


async def test_a_network_that_answers_otherwise_than_the_contract_says_gives_a_bad_reply(
    file: Path, tmp_path: Path
) -> None:
    save(
        file,
        [helper.make_node("Concat", ["values", "values"], ["copy"], axis=1)],
        ["values"],
        ["copy"],
        TensorProto.INT8,
    )
    outputs = [{"name": "copy", "datatype": "INT8", "shape": [2]}]
    engine = OnnxRuntime({"adder": the_model(outputs=outputs)}, repository=tmp_path)
    await engine.is_ready("adder", "1", "fp32")
    with pytest.raises(BadReply, match=r"tensor 'copy': expected INT8 \[1, 2\], got INT8 \[1, 4\]"):
        await engine(REQUEST)
    await engine.aclose()


@pytest.fixture
async def texts(file: Path, tmp_path: Path) -> AsyncIterator[OnnxRuntime]:
    save(
        file,
        [helper.make_node("Identity", ["values"], ["copy"])],
        ["values"],
        ["copy"],
        TensorProto.STRING,
    )
    contract = the_model(
        inputs=[{"name": "values", "datatype": "BYTES", "shape": [2]}],
        outputs=[{"name": "copy", "datatype": "BYTES", "shape": [2]}],
    )
    started = OnnxRuntime({"adder": contract}, repository=tmp_path)
    await started.is_ready("adder", "1", "fp32")
    yield started
    await started.aclose()


async def test_texts_come_back_as_texts(texts: OnnxRuntime) -> None:
    words = [b"gr\xc3\xbcn", b""]
    values = Tensor.of_bytes("values", (1, 2), words)
    response = await texts(a_request(version="1", variant="fp32", inputs=(values,)))
    assert list(split_bytes(response.outputs[0])) == words


async def test_bytes_that_are_no_text_are_the_callers_fault(texts: OnnxRuntime) -> None:
    values = Tensor.of_bytes("values", (1, 2), [b"\xff", b""])
    with pytest.raises(RejectedByBackend, match="tensor 'values': expected UTF-8 text"):
        await texts(a_request(version="1", variant="fp32", inputs=(values,)))


async def test_a_load_outlasts_the_check_that_began_it_and_is_done_once(
    engine: OnnxRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[PoolKey] = []
    may_end = threading.Event()
    load = engine._load

    def slow(key: PoolKey) -> bool:
        loads.append(key)
        may_end.wait(10)
        return load(key)

    monkeypatch.setattr(engine, "_load", slow)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await engine.is_ready("adder", "1", "fp32")
    checks = [asyncio.create_task(engine.is_ready("adder", "1", "fp32")) for _ in range(2)]
    await settle()
    may_end.set()
    assert await asyncio.gather(*checks) == [True, True]
    assert len(loads) == 1


async def test_a_size_that_the_network_refuses_is_the_callers_fault(file: Path, tmp_path: Path) -> None:
    kind, opset = TensorProto.INT8, [helper.make_opsetid("", 17)]
    source, sink = (helper.make_tensor_value_info(name, kind, ["n", 2]) for name in ("values", "copy"))
    graph = helper.make_graph([helper.make_node("Identity", ["values"], ["copy"])], "two", [source], [sink])
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), file)
    open_size = [{"name": name, "datatype": "INT8", "shape": [-1]} for name in ("values", "copy")]
    contract = the_model(inputs=open_size[:1], outputs=open_size[1:])
    engine = OnnxRuntime({"adder": contract}, repository=tmp_path)
    await engine.is_ready("adder", "1", "fp32")
    three = Tensor.of("values", "INT8", np.zeros((1, 3)))
    with pytest.raises(RejectedByBackend, match="values"):
        await engine(a_request(version="1", variant="fp32", inputs=(three,)))
    await engine.aclose()
