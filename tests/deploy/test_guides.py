"""What the guides tell a user to make: the Secrets that the manifests want, and an overlay of their own."""

import json
import re
import subprocess
import textwrap
from pathlib import Path

import pytest
import trustme
import yaml

from tests.deploy.manifests import of_kind, workloads
from tests.deploy.reference_checks import NAMESPACE, SECRETS_OF_THE_USER
from tests.deploy.rendering import KUBECTL, ROOT, SOURCE, build, copy_to

GUIDE = ROOT / "docs" / "deploy.md"
CREATE = re.compile(r"^ *((?:head .*\| )?kubectl -n \w+ create secret .*)$", re.MULTILINE)
KEYS_OF_A_STORE = "RCLONE_CONFIG_STORE_ACCESS_KEY_ID", "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the files that the commands name."""
    certificate = trustme.CA().issue_cert("inferway.example.com")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    (tmp_path / "keys.yaml").write_text("keys: {}\n")
    (tmp_path / "password").write_text("of-the-test")
    (tmp_path / "model-store.env").write_text("".join(f"{name}=of-the-test\n" for name in KEYS_OF_A_STORE))
    return tmp_path


def made(page: Path, folder: Path) -> dict[str, set[str]]:
    """The Secrets that a page's commands make, with their keys; of two with one name, all keys."""
    secrets: dict[str, set[str]] = {}
    for command in CREATE.findall(page.read_text()):
        script = f"set -e; kubectl() {{ '{KUBECTL}' \"$@\" --dry-run=client -o json; }}; {command}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        secret = json.loads(done.stdout)
        assert secret["metadata"]["namespace"] == NAMESPACE
        assert all(secret["data"].values()), f"{command} makes an empty one"
        secrets.setdefault(secret["metadata"]["name"], set()).update(secret["data"])
    return secrets


def test_the_readme_says_how_every_secret_is_made(folder: Path) -> None:
    assert made(SOURCE / "README.md", folder) == SECRETS_OF_THE_USER


def test_the_guide_makes_secrets_that_are_wanted(folder: Path) -> None:
    secrets = made(GUIDE, folder)
    assert {"inferway-keys", "inferway-redis", "inferway-tls"} == secrets.keys()
    assert all(keys <= SECRETS_OF_THE_USER[name] for name, keys in secrets.items())


def test_the_overlay_of_the_guide_takes_every_image_of_ours_from_the_registry(tmp_path: Path) -> None:
    page = GUIDE.read_text()
    text = textwrap.dedent(page.partition("```yaml\n")[2].partition("```")[0])
    assert yaml.safe_load(text)["kind"] == "Kustomization"
    copy_to(tmp_path / "deploy")
    folder = tmp_path / "mine"
    folder.mkdir()
    (patches,) = re.findall(r"`(patches: .*)`", page)
    (folder / "kustomization.yaml").write_text(f"{text}{patches}\n")
    documents = build(folder)
    images = {container["image"] for one in workloads(documents) for container in one.containers}
    names = ("gateway", "models", "torchserve", "triton", "tfserving")
    ours = {f"registry.example.com/inferway/{name}:0.1.0" for name in names}
    assert {image for image in images if "inferway" in image} == ours
    assert [*of_kind(documents, "Ingress")]
    assert all(one["imagePullSecrets"] for one in of_kind(documents, "ServiceAccount"))
    for line in page.splitlines():
        if line.strip().startswith("for name in gateway"):
            assert line.split(" in ")[1].removesuffix("; do").split() == [*names]
