"""Everything in deploy/k8s, rendered once for all tests."""

import pytest

from tests.deploy.manifests import Documents
from tests.deploy.rendering import KUBECTL, build_all, copy_to


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Documents]:
    """By the names in `rendering.TARGETS`; nobody changes them in place."""
    assert KUBECTL.is_file(), "there is no kubectl: run `make env-kubectl`"
    return build_all(copy_to(tmp_path_factory.mktemp("rendered")))
