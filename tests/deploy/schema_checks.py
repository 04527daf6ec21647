"""Every document against a strict schema: Kubernetes' own, or for a custom kind one of `schemas/`."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.deploy.manifests import Document, Documents, identity

KUBERNETES = ("1.30", "1.35")
"""The oldest version that deploy/k8s is for, and the newest that it was checked against."""
SCHEMAS = Path(__file__).parent / "schemas"
_BUILTIN = (
    Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{KUBERNETES[-1]}.0-local-strict"
)


def schemas_are_met(documents: Documents) -> Iterator[str]:
    """Unknown fields, wrong types, and kinds or versions that nobody knows."""
    for document in documents:
        if problem := _problem(json.dumps(document, sort_keys=True)):
            yield f"{identity(document)}: {problem}"


@cache  # most documents are the same in every rendering
def _problem(text: str) -> str:
    document: Document = json.loads(text)
    try:
        if (schema := _custom(document)) is not None:
            validator(schema).validate(document)
        else:
            for version in KUBERNETES:
                kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        return str(error.message)
    except jsonschema.ValidationError as error:
        return f"{error.json_path}: {error.message}"
    return ""


def _custom(document: Document) -> Path | None:
    """The schema of a custom kind, such as schemas/keda.sh_v1alpha1_ScaledObject.yaml."""
    path = SCHEMAS / f"{document['apiVersion'].replace('/', '_')}_{document['kind']}.yaml"
    return path if path.is_file() else None


@cache
def validator(path: Path) -> jsonschema.Draft202012Validator:
    """Of a file in `schemas/`, which may use Kubernetes' own definitions as `kubernetes:#/$defs/...`."""
    schema = yaml.safe_load(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, registry=_definitions())


@cache
def _definitions() -> Registry[Any]:
    definitions = json.loads((_BUILTIN / "_definitions.json").read_text())
    resource = Resource.from_contents(definitions, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("kubernetes:", resource)
    return registry
