"""One API key: its form, its digest, who it lets in."""

import hashlib
import hmac
import re
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from gateway.errors import ModelForbidden, Unauthenticated
from gateway.keys.key import Key, KeySpec, new_secret, presented, split, verify

SHA256 = "ab" * 32


def test_a_new_key_holds_32_random_bytes_and_its_digest_is_all_that_is_stored() -> None:
    key_id, sha256, whole = new_secret()
    assert re.fullmatch(r"ifw_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", whole)
    assert split(whole) == (key_id, bytes.fromhex(sha256))
    assert sha256 == hashlib.sha256(whole[-43:].encode()).hexdigest()
    assert new_secret()[2] != whole


@pytest.mark.parametrize("text", ["", "ifw", "ifw_0123456789ab_x", "xyz_0123456789ab_" + "a" * 43, "é" * 60])
def test_what_has_not_the_form_of_a_key_is_none(text: str) -> None:
    with pytest.raises(Unauthenticated, match="not valid"):
        split(text)


def a_key(**more: object) -> tuple[Key, bytes]:
    key_id, sha256, whole = new_secret()
    return Key.of(key_id, KeySpec.model_validate({"name": "team", "sha256": sha256, **more})), split(whole)[1]


def test_only_its_own_secret_opens_a_key_and_no_secret_an_unknown_one() -> None:
    key, sha256 = a_key()
    other, other_sha256 = a_key()
    assert verify(key, sha256, now=0.0) is key
    for wrong, another in ((key, other_sha256), (other, sha256), (None, sha256)):
        with pytest.raises(Unauthenticated, match="the API key is not valid"):
            verify(wrong, another, now=0.0)


def test_an_unknown_key_is_compared_as_a_known_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    key, sha256 = a_key()
    for stored in (key, None):
        with pytest.raises(Unauthenticated):
            verify(stored, sha256, now=0.0)
    assert [(len(one), len(other)) for one, other in compared] == [(32, 32), (32, 32)]


def test_a_disabled_or_expired_key_says_so_to_who_has_its_secret_only() -> None:
    end = datetime(2030, 1, 1, tzinfo=UTC)
    expiring, sha256 = a_key(expires=end)
    assert verify(expiring, sha256, end.timestamp() - 1) is expiring
    with pytest.raises(Unauthenticated, match="expired"):
        verify(expiring, sha256, end.timestamp())
    disabled, sha256 = a_key(disabled=True)
    with pytest.raises(Unauthenticated, match="disabled"):
        verify(disabled, sha256, 0.0)
    with pytest.raises(Unauthenticated, match="not valid"):
        verify(disabled, bytes(32), 0.0)


def test_a_key_without_models_may_call_every_one_and_another_only_its_own() -> None:
    a_key()[0].check_model("any")
    limited, _ = a_key(models=["cnn_mnist"])
    limited.check_model("cnn_mnist")
    with pytest.raises(ModelForbidden, match="may not call model 'other'"):
        limited.check_model("other")


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "found"),
    [
        ("Bearer abc", "", "abc"),
        ("bearer  abc", "", "abc"),
        ("", "xyz", "xyz"),
        ("Bearer abc", "xyz", "xyz"),
        ("Basic Zm9v", "xyz", "xyz"),
    ],
)
def test_the_key_is_found_in_either_header(authorization: str, x_api_key: str, found: str) -> None:
    assert presented(authorization, x_api_key) == found


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic Zm9v", "abc"])
def test_no_key_is_told_apart_from_a_wrong_one(authorization: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        presented(authorization, "")
    assert refused.value.reason == "no_key"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"burst": 5}, "burst needs requests_per_second"),
        ({"expires": "2030-01-01T00:00:00"}, "needs a time zone"),
        ({"requests_per_day": -1}, "greater than or equal to 0"),
        ({"secret": "x"}, "Extra inputs"),
        ({"sha256": "x"}, "should match pattern"),
    ],
)
def test_what_is_stored_is_checked(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KeySpec.model_validate({"name": "team", "sha256": SHA256, **more})


def test_a_burst_is_a_seconds_requests_unless_it_is_set() -> None:
    assert a_key(requests_per_second=20)[0].burst == 20
    assert a_key(requests_per_second=20, burst=5)[0].burst == 5
    assert a_key(requests_per_second=0.1)[0].burst == 1
