"""Renders deploy/k8s with the pinned kubectl: every overlay, every component, and combinations."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "deploy" / "k8s"
KUBECTL = ROOT / ".venvs" / "kubectl" / "bin" / "kubectl"

Document = dict[str, Any]
Documents = list[Document]

FOLDERS = ("base", "overlays/local", "overlays/production", "overlays/gpu", "kserve")
COMPONENTS = tuple(sorted(path.parent.name for path in SOURCE.glob("components/*/kustomization.yaml")))
COMBINATIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    **{f"base+{name}": ("base", (name,)) for name in COMPONENTS},
    "production+ingress+managed-redis+models-pvc+tracing": (
        "overlays/production",
        ("ingress", "managed-redis", "models-pvc", "tracing"),
    ),
    "gpu+gateway-api+models-object-storage": (
        "overlays/gpu",
        ("gateway-api", "models-object-storage"),
    ),
    "kserve+pod-monitors": ("kserve", ("pod-monitors",)),
}
"""By the name of the rendering: a folder, and components put over it as a user's own overlay would."""
TARGETS = (*FOLDERS, *COMBINATIONS)


class RenderError(Exception):
    """kustomize refused; the text is its own."""


def text_of(folder: Path) -> str:
    """What `kubectl apply -k FOLDER` would send.

    Raises:
        RenderError: kustomize refused.
    """
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RenderError(done.stderr)
    return done.stdout


def build(folder: Path) -> Documents:
    """The same as documents.

    Raises:
        RenderError: kustomize refused.
    """
    return [document for document in yaml.load_all(text_of(folder), yaml.CSafeLoader) if document]


def copy_to(folder: Path) -> Path:
    """A copy of deploy/k8s under `folder`, to be changed."""
    return Path(shutil.copytree(SOURCE, folder / "k8s"))


def add_overlay(tree: Path, below: str, components: Sequence[str]) -> Path:
    """A folder beside `tree` that puts components over one of its folders."""
    made = tree.parent / "-".join((below.replace("/", "-"), *components))
    made.mkdir()
    text = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../{tree.name}/{below}"],
        "components": [f"../{tree.name}/components/{name}" for name in components],
    }
    (made / "kustomization.yaml").write_text(yaml.safe_dump(text))
    return made


def build_all(tree: Path) -> dict[str, Documents]:
    """Every rendering, by name."""
    folders = {name: tree / name for name in FOLDERS}
    folders |= {name: add_overlay(tree, *parts) for name, parts in COMBINATIONS.items()}
    with ThreadPoolExecutor(2) as threads:
        return dict(zip(folders, threads.map(build, folders.values()), strict=True))
