"""The content key: shared exactly by requests that one answer is right for."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.caching.content_key import KEY_BYTES, content_key
from gateway.inference import InferRequest, Parameter, Tensor
from tests.fakes import VALUES, a_request

DIGEST = b"d" * 16
REQUEST = a_request(version="1", variant="fp32", outputs=("sum",), parameters={"gain": 1})


def key_of(request: InferRequest, build_digest: bytes = DIGEST) -> bytes:
    return content_key(request, request.version, request.variant, build_digest)


names = st.text("ab", max_size=2)
tensors = st.builds(
    Tensor,
    name=names,
    datatype=st.sampled_from(["INT8", "UINT8", "BYTES"]),
    shape=st.lists(st.integers(0, 2), max_size=2).map(tuple),
    data=st.binary(max_size=3),
)
parameters = st.dictionaries(
    names, st.sampled_from([1, 1.0, True, "1", 0, False, "True", "int:1"]), max_size=2
)
requests = st.builds(
    InferRequest,
    model=names,
    version=st.sampled_from(["1", "2", "12"]),
    variant=names,
    inputs=st.lists(tensors, max_size=3, unique_by=lambda tensor: tensor.name).map(tuple),
    outputs=st.lists(names, max_size=2).map(tuple),
    parameters=parameters,
    deadline=st.just(0.0),
)


def meaning(request: InferRequest) -> object:
    """All that an answer depends on, told apart by Python's own equality (types of parameters included)."""
    inputs = frozenset((t.name, t.datatype, t.shape, bytes(t.data)) for t in request.inputs)
    values = frozenset((name, type(value), value) for name, value in request.parameters.items())
    return (request.model, request.version, request.variant, inputs, request.outputs, values)


@given(requests, requests)
def test_two_requests_share_a_key_exactly_when_they_mean_the_same(
    one: InferRequest, other: InferRequest
) -> None:
    same_key = key_of(one) == key_of(other)
    assert same_key is (meaning(one) == meaning(other))


@given(requests, st.data())
def test_the_order_of_the_inputs_does_not_matter(request_: InferRequest, data: st.DataObject) -> None:
    shuffled = tuple(data.draw(st.permutations(request_.inputs)))
    assert key_of(replace(request_, inputs=shuffled)) == key_of(request_)


@given(requests, st.data())
def test_the_order_of_the_parameters_does_not_matter(request_: InferRequest, data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations(list(request_.parameters.items()))))
    assert key_of(replace(request_, parameters=shuffled)) == key_of(request_)


@given(st.binary(max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_bytes_split_otherwise_between_two_inputs_never_share(data: bytes, one: int, other: int) -> None:
    assume(min(one, len(data)) != min(other, len(data)))

    def split(at: int) -> InferRequest:
        inputs = (Tensor("a", "UINT8", (1,), data[:at]), Tensor("b", "UINT8", (1,), data[at:]))
        return replace(REQUEST, inputs=inputs)

    assert key_of(split(one)) != key_of(split(other))


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, model="adde"),
        replace(REQUEST, version="2"),
        replace(REQUEST, variant="int8"),
        replace(REQUEST, outputs=()),
        replace(REQUEST, outputs=("sum", "sum")),
        replace(REQUEST, parameters={}),
        replace(REQUEST, inputs=(replace(VALUES, shape=(2, 1)),)),
        replace(REQUEST, inputs=(replace(VALUES, shape=(2,)),)),
        replace(REQUEST, inputs=(replace(VALUES, datatype="UINT8"),)),
        replace(REQUEST, inputs=(replace(VALUES, name="value"),)),
        replace(REQUEST, inputs=(replace(VALUES, data=b"\x01\x03"),)),
        replace(REQUEST, inputs=()),
    ],
)
def test_requests_that_differ_in_one_thing_never_share(other: InferRequest) -> None:
    assert key_of(other) != key_of(REQUEST)


def test_one_and_one_point_nought_and_true_and_the_text_are_four_parameters() -> None:
    values: list[Parameter] = [1, 1.0, True, "1"]
    assert len({key_of(replace(REQUEST, parameters={"p": value})) for value in values}) == 4


def test_the_order_of_the_outputs_matters_since_the_reply_has_it() -> None:
    one, other = (replace(REQUEST, outputs=outputs) for outputs in (("a", "b"), ("b", "a")))
    assert key_of(one) != key_of(other)


def test_outputs_are_never_taken_for_parameters() -> None:
    one = replace(REQUEST, outputs=("p", "str:'x'"), parameters={})
    other = replace(REQUEST, outputs=(), parameters={"p": "x"})
    assert key_of(one) != key_of(other)


def test_another_build_never_shares() -> None:
    assert key_of(REQUEST, b"e" * 16) != key_of(REQUEST)


def test_who_asks_and_until_when_does_not_count() -> None:
    other = replace(REQUEST, id="7", deadline=5.0, label="stable", excluded=frozenset({"a"}), key=b"x")
    assert key_of(other) == key_of(REQUEST)


def test_a_view_and_a_copy_of_the_same_bytes_share() -> None:
    viewed = replace(VALUES, data=memoryview(bytes(VALUES.data)))
    assert key_of(replace(REQUEST, inputs=(viewed,))) == key_of(REQUEST)


def test_a_key_has_32_bytes() -> None:
    assert len(key_of(REQUEST)) == KEY_BYTES == 32
