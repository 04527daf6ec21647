"""Every variant that is built can be asked for over every protocol, and the reply says which one answered."""

import numpy as np
import pytest

from gateway.configuration import load
from gateway.contract import Contract
from tests.e2e.sharing_clients import CLIENTS
from tests.serving import MODEL, ROOT, StartedGateway, heldout

VARIANTS = list(load(Contract, ROOT / "models" / MODEL / "model.yaml").versions["1"].variants)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_answers_over_every_protocol_and_is_named(
    embedded_gateway: StartedGateway, variant: str
) -> None:
    image = heldout()[0][410:411]
    said = {
        name: client(embedded_gateway, image, {"x-inferway-variant": variant})
        for name, client in CLIENTS.items()
    }
    first = next(iter(said.values()))
    for name, reply in said.items():
        assert reply.facts == {
            "x-inferway-cache": "miss" if reply is first else "memory",
            "x-inferway-variant": variant,
            "x-inferway-version": "1",
            "x-inferway-backend": "onnxruntime",
        }, name
        np.testing.assert_allclose(reply.values, first.values, rtol=1e-6, err_msg=name)


def test_without_a_word_the_first_variant_answers(embedded_gateway: StartedGateway) -> None:
    image = heldout()[0][411:412]
    for client in CLIENTS.values():
        assert client(embedded_gateway, image).facts["x-inferway-variant"] == VARIANTS[0]
