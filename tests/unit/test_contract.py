"""The contract: what model.yaml may say, what a request must be, what a reply must be."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gateway.contract import Contract, check_reply
from gateway.errors import InvalidTensor
from gateway.inference import ITEM_BYTES, Tensor
from tests.fakes import SUM, VALUES, a_contract, a_request, a_version


def values(*shape: int, datatype: str = "INT8", name: str = "values", data: bytes | None = None) -> Tensor:
    size = int(np.prod(shape)) * ITEM_BYTES[datatype]
    return Tensor(name, datatype, shape, bytes(size) if data is None else data)


TWO_INPUTS = a_contract(
    inputs=[
        {"name": "ids", "datatype": "INT8", "shape": [-1]},
        {"name": "mask", "datatype": "INT8", "shape": [-1]},
    ]
)


def padded(shape: list[int], datatype: str = "INT8", **more: int) -> dict[str, Any]:
    """The change of `a_contract` that gives its input this shape and a padded axis."""
    return {"inputs": [{"name": "values", "datatype": datatype, "shape": shape, "padded": more}]}


def test_a_request_that_fits_passes() -> None:
    a_contract().check(a_request(outputs=("sum",)))


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ((), "'values': expected INT8 .-1, 2., got nothing"),
        ((VALUES, values(1, 2, name="extra")), "'extra': expected the inputs .'values'., got an unknown"),
        ((VALUES, VALUES), "'values': expected each input once, got it twice"),
        ((values(1, 2, datatype="FP32"),), "'values': expected datatype INT8, got FP32"),
        ((values(1, 3),), "expected shape .-1, 2., got shape .1, 3."),
        ((values(2),), "expected shape .-1, 2., got shape .2."),
        ((values(1, 2, 1),), "expected shape .-1, 2., got shape .1, 2, 1."),
        ((values(0, 2),), "expected a batch of 1 to 4, got a batch of 0"),
        ((values(5, 2),), "expected a batch of 1 to 4, got a batch of 5"),
        ((values(1, 2, data=b"\0"),), "expected 2 bytes for INT8 .1, 2., got 1 bytes"),
        ((values(1, 2, data=b"\0\0\0"),), "expected 2 bytes for INT8 .1, 2., got 3 bytes"),
    ],
)
def test_a_request_that_does_not_fit_is_told_which_tensor_and_why(
    inputs: tuple[Tensor, ...], text: str
) -> None:
    with pytest.raises(InvalidTensor, match=text):
        a_contract().check(a_request(inputs=inputs))


def test_an_input_is_refused_by_its_shape_before_it_has_any_data() -> None:
    contract = a_contract()
    contract.check_input("values", "INT8", (4, 2))
    with pytest.raises(InvalidTensor, match=r"expected shape \[-1, 2\], got 100000 dimensions"):
        contract.check_input("values", "INT8", (2**62,) * 100_000)
    with pytest.raises(InvalidTensor, match="expected a batch of 1 to 4, got a batch of 1000000000"):
        contract.check_input("values", "INT8", (10**9, 2))


@pytest.mark.parametrize("size", [-1, 2**63, 2**64 - 1])
def test_a_dimension_that_no_backend_can_hold_is_refused(size: int) -> None:
    contract = a_contract(
        max_batch_size=0, inputs=[{"name": "values", "datatype": "INT8", "shape": [-1, -1]}]
    )
    with pytest.raises(InvalidTensor, match="expected shape"):
        contract.check(a_request(inputs=(Tensor("values", "INT8", (0, size), b""),)))


def test_inputs_of_different_batch_sizes_are_refused() -> None:
    inputs = (values(1, 2, name="ids"), values(2, 2, name="mask"))
    with pytest.raises(InvalidTensor, match=r"the same batch size .*, got .*'ids': 1.*'mask': 2"):
        TWO_INPUTS.check(a_request(inputs=inputs))


def test_an_open_dimension_takes_any_size() -> None:
    TWO_INPUTS.check(a_request(inputs=(values(2, 7, name="mask"), values(2, 3, name="ids"))))


@pytest.mark.parametrize(("batch", "axis", "full"), [(4, 0, 1), (4, 1, 2), (0, 1, 1)])
def test_a_padded_axis_takes_what_the_model_can_and_no_more(batch: int, axis: int, full: int) -> None:
    contract = a_contract(max_batch_size=batch, **padded([-1, -1], axis=axis, maximum=8))
    for size, fits in ((0, False), (1, True), (8, True), (9, False)):
        shape = [2] * (2 + bool(batch))
        shape[full] = size
        if fits:
            contract.check_input("values", "INT8", tuple(shape))
        else:
            with pytest.raises(InvalidTensor, match=rf"1 to 8 along axis {full}, got shape .*{size}"):
                contract.check_input("values", "INT8", tuple(shape))


def test_a_model_without_a_batch_axis_takes_exactly_its_own_shape() -> None:
    contract = a_contract(max_batch_size=0)
    contract.check(a_request(inputs=(values(2),)))
    with pytest.raises(InvalidTensor, match=r"expected shape .2., got shape .1, 2."):
        contract.check(a_request())


def test_an_unknown_output_is_refused() -> None:
    with pytest.raises(InvalidTensor, match=r"'total': expected the outputs .'sum'., got an unknown output"):
        a_contract().check(a_request(outputs=("total",)))


def test_an_output_asked_for_twice_is_refused() -> None:
    with pytest.raises(InvalidTensor, match="'sum': expected each output once, got it twice"):
        a_contract().check(a_request(outputs=("sum", "sum")))


def test_a_reply_that_fits_passes() -> None:
    check_reply(a_contract(), a_request(), (SUM,))


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ((), "'sum': expected outputs .'sum',., got ()"),
        ((values(1, 1, name="total"),), "'total': expected outputs"),
        ((SUM, SUM), "expected outputs"),
        ((values(1, 1, name="sum", datatype="FP32"),), "expected INT8 .1, 1., got FP32 .1, 1."),
        ((values(2, 1, name="sum"),), "expected INT8 .1, 1., got INT8 .2, 1."),
        ((values(1, name="sum"),), "expected INT8 .1, 1., got INT8 .1."),
        ((values(1, 1, name="sum", data=b""),), "expected 1 bytes for INT8 .1, 1., got 0 bytes"),
    ],
)
def test_a_reply_that_does_not_fit_is_told_which_output_and_why(
    outputs: tuple[Tensor, ...], text: str
) -> None:
    with pytest.raises(InvalidTensor, match=text):
        check_reply(a_contract(), a_request(), outputs)


def test_a_reply_has_the_outputs_asked_for_in_the_order_asked_for() -> None:
    contract = a_contract(
        outputs=[
            {"name": "sum", "datatype": "INT8", "shape": [1]},
            {"name": "mean", "datatype": "INT8", "shape": [1]},
        ]
    )
    mean = values(1, 1, name="mean")
    check_reply(contract, a_request(), (SUM, mean))
    check_reply(contract, a_request(outputs=("mean", "sum")), (mean, SUM))
    check_reply(contract, a_request(outputs=("mean",)), (mean,))
    with pytest.raises(InvalidTensor):
        check_reply(contract, a_request(outputs=("mean", "sum")), (SUM, mean))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "a b"}, "pattern"),
        ({"default_version": "9"}, "there is no version '9'; known here: 1, 2"),
        ({"default_version": "01"}, "pattern"),
        ({"labels": {"canary": "9"}}, "there is no version '9'"),
        ({"inputs": []}, "at least 1"),
        ({"inputs": [{"name": "v", "datatype": "FP99", "shape": [1]}]}, "'FP64' or 'BYTES'"),
        ({"inputs": [{"name": "v", "datatype": "INT8", "shape": [0]}]}, "a dimension is a positive number"),
        ({"inputs": [{"name": "v", "datatype": "INT8", "shape": [-2]}]}, "a dimension is a positive number"),
        ({"inputs": [{"name": "v", "datatype": "INT8", "shape": [1]}] * 2}, "two tensors have the same name"),
        ({"outputs": [{"name": "o", "datatype": "INT8", "shape": [3], "labels": ["a"]}]}, "1 labels do not"),
        ({"outputs": [{"name": "o", "datatype": "INT8", "shape": [], "labels": ["a"]}]}, "1 labels do not"),
        ({"versions": {"1": a_version("fp32", sha256="x")}}, "pattern"),
        ({"versions": {"1": {"variants": {}}}}, "at least 1"),
        ({"versions": {"1": a_version("fp32", unpublished={"trition": "why"})}}, "'tfserving'"),
        ({"versions": {"1": a_version("fp32", unpublished={"triton": ""})}}, "at least 1"),
        ({"floors": {"acuracy": 0.9}}, "there is no such floor; did you mean 'accuracy'?"),
        ({"task": "ranking"}, "'classification' or 'regression'"),
        (padded([2], maximum=8), "the padded axis 0 of .2. is not of size -1"),
        (padded([-1], axis=1, maximum=8), "the padded axis 1 of .-1. is not"),
        (padded([-1], maximum=0), "greater than or equal to 1"),
        (padded([-1], datatype="BYTES", maximum=8), "BYTES cannot be padded"),
        ({"timeout_seconds": 0}, "greater than 0"),
        ({"cache": {"ttl_seconds": 0}}, "greater than 0"),
        ({"timeuot_seconds": 1}, "not permitted"),
    ],
)
def test_a_model_file_that_makes_no_sense_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        a_contract(**changes)


DIGEST = a_contract().build_digest("1", "fp32")


@pytest.mark.parametrize(
    "contract",
    [
        a_contract(name="other"),
        a_contract(max_batch_size=8),
        a_contract(inputs=[{"name": "values", "datatype": "UINT8", "shape": [2]}]),
        a_contract(inputs=[{"name": "values", "datatype": "INT8", "shape": [3]}]),
        a_contract(**padded([-1], maximum=8)),
        a_contract(outputs=[{"name": "total", "datatype": "INT8", "shape": [1]}]),
        a_contract(versions={"1": a_version("fp32", sha256="9" * 64)}),
    ],
)
def test_the_build_digest_changes_with_weights_and_contract(contract: Contract) -> None:
    assert contract.build_digest("1", "fp32") != DIGEST


def test_the_build_digest_changes_with_version_and_variant() -> None:
    contract = a_contract()
    assert len({contract.build_digest(*key) for key in (("1", "fp32"), ("1", "int8"), ("2", "fp32"))}) == 3


def test_the_build_digest_of_a_variant_follows_its_own_checkpoint_alone() -> None:
    fp32, int8 = a_version("fp32")["variants"], a_version("int8", sha256="9" * 64)["variants"]
    versions = {"1": {"variants": fp32 | int8}}
    before, after = a_contract(versions={"1": a_version("fp32", "int8")}), a_contract(versions=versions)
    assert before.build_digest("1", "fp32") == after.build_digest("1", "fp32")
    assert before.build_digest("1", "int8") != after.build_digest("1", "int8")


def test_the_first_variant_is_the_default() -> None:
    assert a_contract(versions={"1": a_version("int8", "fp32")}).versions["1"].default_variant == "int8"


def test_the_build_digest_tells_an_input_from_an_output() -> None:
    a, b, c = ({"name": name, "datatype": "INT8", "shape": [1]} for name in "abc")
    one = a_contract(inputs=[a], outputs=[b, c])
    other = a_contract(inputs=[a, b], outputs=[c])
    assert one.build_digest("1", "fp32") != other.build_digest("1", "fp32")


def test_the_build_digest_ignores_what_does_not_change_an_answer() -> None:
    contract = a_contract(description="words", timeout_seconds=1, labels={}, default_version="2")
    assert contract.build_digest("1", "fp32") == DIGEST
