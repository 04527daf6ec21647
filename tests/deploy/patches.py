"""Patches that change nothing: kustomize says nothing of a target that matches nobody."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.rendering import add_overlay, text_of


def patches_without_effect(tree: Path) -> list[str]:
    """Every part of every patch in a copy of deploy/k8s without which the rendering is the same.

    Each is left out once, in a copy of its own folder; a component is put over the base for that.
    """
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda one: list(_without_effect(tree, *one)), _with_patches(tree)))
    return [fault for faults in found for fault in faults]


def _with_patches(tree: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(tree.rglob("kustomization.yaml")):
        text = yaml.safe_load(path.read_text())
        if "patches" in text:
            yield path.parent, text


def _parts(folder: Path, text: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The patches, each document of a file and each name of a target's alternatives on its own."""
    for patch in text["patches"]:
        documents = list(yaml.safe_load_all((folder / patch["path"]).read_text()))
        for name in patch.get("target", {}).get("name", "").split("|"):
            target = {"target": {**patch["target"], "name": name}} if name else {}
            for document in documents:
                yield {"patch": yaml.safe_dump(document), **target}


def _without_effect(tree: Path, folder: Path, text: dict[str, Any]) -> Iterator[str]:
    parts = list(_parts(folder, text))
    whole = _rendered(tree, folder, {**text, "patches": parts}, "whole")
    for number, part in enumerate(parts):
        others = parts[:number] + parts[number + 1 :]
        if _rendered(tree, folder, {**text, "patches": others}, str(number)) == whole:
            yield f"{folder.relative_to(tree)}: {part} changes nothing"


def _rendered(tree: Path, folder: Path, text: dict[str, Any], number: str) -> str:
    """The folder as if its kustomization were `text`; its copy lies beside it, so that paths stay right."""
    copy = folder.with_name(f"{folder.name}-{number}")
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).symlink_to(file) if file.is_dir() else (copy / file.name).write_bytes(
            file.read_bytes()
        )
    (copy / "kustomization.yaml").write_text(yaml.safe_dump(text))
    if text["kind"] == "Component":
        return text_of(add_overlay(tree, "base", (copy.name,)))
    return text_of(copy)
