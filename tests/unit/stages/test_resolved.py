"""Resolved: a client's words become one concrete version and variant, checked before anything is paid for."""

from dataclasses import replace

import pytest

from gateway.catalog import Catalog
from gateway.errors import BodyTooLarge, InferwayError, InvalidTensor, ModelNotFound, VersionNotFound
from gateway.inference import InferRequest, Tensor
from gateway.stages.resolved import Resolved
from tests.fakes import VALUES, FakeInfer, a_contract, a_request, a_version

LIMIT_BYTES = 1024


class Rig:
    """A Resolved over a fake."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        self.backend = FakeInfer()
        catalog = catalog or Catalog({"adder": a_contract()}, passthrough=frozenset({"raw"}))
        self.infer = Resolved(self.backend, catalog=catalog, max_request_bytes=LIMIT_BYTES)

    async def resolve(self, request: InferRequest) -> InferRequest:
        """What the backend is asked for `request`."""
        await self.infer(request)
        return self.backend.requests[-1]


async def test_without_words_the_default_version_and_variant_answer() -> None:
    resolved = await Rig().resolve(a_request())
    assert (resolved.version, resolved.variant) == ("1", "fp32")


async def test_a_label_answers_as_its_version() -> None:
    assert (await Rig().resolve(a_request(label="stable"))).version == "1"


async def test_a_variant_asked_for_answers() -> None:
    assert (await Rig().resolve(a_request(variant="int8"))).variant == "int8"


async def test_the_default_its_label_and_its_number_are_one_request() -> None:
    rig = Rig()
    words: tuple[dict[str, str], ...] = ({}, {"version": "1"}, {"label": "stable"}, {"variant": "fp32"})
    keys = {(await rig.resolve(a_request(**said))).key for said in words}
    assert len(keys) == 1
    assert len(keys.pop()) == 32


async def test_versions_and_variants_never_share_a_key() -> None:
    rig = Rig()
    words = ({"version": "1"}, {"version": "2"}, {"variant": "int8"})
    assert len({(await rig.resolve(a_request(**said))).key for said in words}) == 3


async def test_a_new_default_version_is_never_answered_for_by_the_old_one() -> None:
    before = await Rig().resolve(a_request())
    after = await Rig(Catalog({"adder": a_contract(default_version="2")})).resolve(a_request())
    assert before.key != after.key


async def test_new_weights_under_an_old_version_take_a_new_key() -> None:
    versions = {"1": a_version("fp32", sha256="9" * 64)}
    before = await Rig().resolve(a_request())
    after = await Rig(Catalog({"adder": a_contract(versions=versions)})).resolve(a_request())
    assert before.key != after.key


async def test_each_caller_gets_its_own_id_back_and_the_key_does_not_know_it() -> None:
    rig = Rig()
    assert [(await rig.infer(a_request(id=id_))).id for id_ in ("7", "8", "")] == ["7", "8", ""]
    assert len({request.key for request in rig.backend.requests}) == 1


async def test_a_model_whose_cache_is_off_takes_no_key() -> None:
    rig = Rig(Catalog({"adder": a_contract(cache={"enabled": False})}))
    assert (await rig.resolve(a_request())).key == b""


async def test_a_model_without_a_contract_is_passed_through_unchanged_and_without_a_key() -> None:
    request = a_request(model="raw", version="7", inputs=(Tensor("any", "BYTES", (1,), b"raw"),))
    assert await Rig().resolve(request) == request


async def test_a_model_without_a_contract_gives_the_id_back_too() -> None:
    assert (await Rig().infer(a_request(model="raw", id="7"))).id == "7"


async def test_the_rest_of_the_request_goes_on_as_it_was() -> None:
    request = a_request(outputs=("sum",), parameters={"gain": 2}, deadline=5.0, id="7")
    resolved = await Rig().resolve(request)
    assert replace(resolved, version="", variant="", key=b"") == request


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (a_request(model="nobody"), ModelNotFound),
        (a_request(version="9"), VersionNotFound),
        (a_request(label="canary"), VersionNotFound),
        (a_request(variant="int4"), VersionNotFound),
        (a_request(version="2", variant="int8"), VersionNotFound),
        (a_request(inputs=()), InvalidTensor),
        (a_request(inputs=(replace(VALUES, datatype="FP32"),)), InvalidTensor),
        (a_request(inputs=(replace(VALUES, data=b""),)), InvalidTensor),
        (a_request(outputs=("total",)), InvalidTensor),
    ],
)
async def test_what_is_wrong_ends_here_and_nothing_behind_is_called(
    request_: InferRequest, kind: type[InferwayError]
) -> None:
    rig = Rig()
    with pytest.raises(kind):
        await rig.infer(request_)
    assert rig.backend.requests == []


async def test_tensors_over_the_limit_are_refused_before_any_call() -> None:
    rig = Rig()
    with pytest.raises(BodyTooLarge):
        await rig.infer(a_request(inputs=(Tensor("values", "FP32", (512, 1), bytes(2 * LIMIT_BYTES)),)))
    assert rig.backend.requests == []
