"""chain(): stages in the order in which a request meets them."""

from functools import partial

from gateway.chain import Infer, chain
from gateway.inference import InferRequest, InferResponse
from tests.fakes import FakeInfer, a_request


class Noting:
    """A stage that writes its name down on the way in and on the way out."""

    def __init__(self, call_next: Infer, *, name: str, notes: list[str]) -> None:
        self._call_next = call_next
        self._name = name
        self._notes = notes

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        self._notes.append(f"{self._name} in")
        response = await self._call_next(request)
        self._notes.append(f"{self._name} out")
        return response


async def test_the_first_stage_listed_is_met_first_and_left_last() -> None:
    notes: list[str] = []
    infer = chain(
        partial(Noting, name="outer", notes=notes),
        partial(Noting, name="inner", notes=notes),
        to=FakeInfer(),
    )
    await infer(a_request())
    assert notes == ["outer in", "inner in", "inner out", "outer out"]


async def test_a_chain_without_stages_is_what_it_leads_to() -> None:
    backend = FakeInfer()
    assert chain(to=backend) is backend
