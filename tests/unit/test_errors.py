"""The tree of failures: drawn truly, and each class states its three facts."""

import inspect
import re

import pytest

from gateway import errors
from gateway.errors import EndpointFailure, InferwayError, InvalidTensor, VersionNotFound

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, InferwayError) and value.__module__ == errors.__name__
]


def drawn_tree() -> dict[str, str]:
    """Class to parent, as the module's docstring draws them."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([| ]*)(?:[|`]-- )?([A-Z]\w+)", line)
        if match is None:
            continue
        depth = (line.index(match[2]) - 4) // 4
        path[depth:] = [match[2]]
        parents[match[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_the_docstring_draws_the_tree_that_the_classes_are() -> None:
    assert drawn_tree() == {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_only_an_endpoints_failure_is_retried(kind: type[InferwayError]) -> None:
    assert kind.retryable is issubclass(kind, EndpointFailure)


@pytest.mark.parametrize("kind", CLASSES)
def test_only_an_endpoints_failure_can_blame_an_endpoint(kind: type[InferwayError]) -> None:
    assert issubclass(kind, EndpointFailure) or not kind.blames_endpoint


def test_a_full_queue_blames_nobody() -> None:
    assert errors.EndpointBusy.retryable
    assert not errors.EndpointBusy.blames_endpoint


def test_only_an_unreachable_endpoint_was_sent_nothing() -> None:
    unsent = {kind.__name__ for kind in CLASSES if issubclass(kind, EndpointFailure) and not kind.was_sent}
    assert unsent == {"EndpointUnreachable"}


def test_a_wrong_tensor_is_told_by_name_with_what_was_expected_and_what_came() -> None:
    error = InvalidTensor("image", expected="FP32 [-1, 28]", got="INT8")
    assert str(error) == "tensor 'image': expected FP32 [-1, 28], got INT8"


@pytest.mark.parametrize(("known", "have"), [(["1", "2"], "1, 2"), ([], "none")])
def test_a_version_that_is_not_there_is_told_with_those_that_are(known: list[str], have: str) -> None:
    assert str(VersionNotFound("m", "version", "9", known)) == (
        f"model 'm' has no version '9' (it has: {have})"
    )
