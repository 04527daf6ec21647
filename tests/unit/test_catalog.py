"""The catalog: what a client's words for a model stand for."""

import pytest

from gateway.catalog import Catalog
from gateway.errors import ModelNotFound, VersionNotFound
from tests.fakes import a_contract, a_version

CATALOG = Catalog({"adder": a_contract()}, passthrough=frozenset({"raw"}))


def test_names_are_those_with_and_without_a_contract_in_order() -> None:
    assert CATALOG.names == ["adder", "raw"]


@pytest.mark.parametrize("model", ["nobody", "raw", ""])
def test_a_model_without_a_contract_is_not_found(model: str) -> None:
    with pytest.raises(ModelNotFound, match=f"model '{model}' is not found"):
        CATALOG.contract(model)


def test_without_a_version_the_default_one_answers() -> None:
    assert CATALOG.version("adder") == "1"


def test_a_spelled_version_stands_for_itself() -> None:
    assert CATALOG.version("adder", version="2") == "2"


def test_a_label_stands_for_its_version() -> None:
    assert CATALOG.version("adder", label="stable") == "1"


@pytest.mark.parametrize("version", ["3", "01", "1 ", "latest"])
def test_a_version_that_is_not_there_is_refused_with_those_that_are(version: str) -> None:
    with pytest.raises(VersionNotFound, match=rf"no version '{version}' \(it has: 1, 2\)"):
        CATALOG.version("adder", version=version)


def test_versions_are_listed_as_numbers() -> None:
    spec = a_version("fp32", sha256="1" * 64)
    catalog = Catalog({"adder": a_contract(versions=dict.fromkeys(("10", "9", "1"), spec))})
    with pytest.raises(VersionNotFound, match="1, 9, 10"):
        catalog.version("adder", version="2")


def test_a_label_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(VersionNotFound, match=r"no label 'canary' \(it has: stable\)"):
        CATALOG.version("adder", label="canary")


def test_without_a_variant_the_first_published_one_answers() -> None:
    assert CATALOG.variant("adder", "1") == "fp32"


def test_a_variant_of_another_version_is_refused() -> None:
    assert CATALOG.variant("adder", "1", "int8") == "int8"
    with pytest.raises(VersionNotFound, match=r"no variant 'int8' \(it has: fp32\)"):
        CATALOG.variant("adder", "2", "int8")


def test_a_label_that_is_moved_stands_elsewhere_at_once_and_in_this_catalog_alone() -> None:
    contract = a_contract()
    moved, other = Catalog({"adder": contract}), Catalog({"adder": contract})
    moved.move_label("adder", "stable", "2")
    moved.move_label("adder", "next", "2")
    assert moved.labels("adder") == {"stable": "2", "next": "2"}
    assert moved.version("adder", label="stable") == "2"
    assert other.labels("adder") == {"stable": "1"}


@pytest.mark.parametrize(("model", "version"), [("adder", "3"), ("nobody", "1")])
def test_a_label_is_not_moved_to_what_there_is_not(model: str, version: str) -> None:
    catalog = Catalog({"adder": a_contract()})
    with pytest.raises((ModelNotFound, VersionNotFound)):
        catalog.move_label(model, "stable", version)
    assert catalog.labels("adder") == {"stable": "1"}
