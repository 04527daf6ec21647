"""Gives a LiteRT file the tensor names that TensorFlow Serving shows to clients.

    .venvs/tensorflow/bin/python -m services.tfserving.tensor_names FILE

The converter names tensors `serving_default_image:0` or `StatefulPartitionedCall_1:0`, and keeps the names of
the SavedModel's signature in a table beside them. TensorFlow Serving does not read that table: its clients
would have to send `serving_default_image`. So each input and output is renamed here as the table calls it.
"""

import sys
from pathlib import Path

from ai_edge_litert.tools import flatbuffer_utils


def name_tensors(path: Path) -> None:
    """Rename, in place; a file that has these names already stays as it is.

    Args:
        path: a LiteRT file with one signature, as `TFLiteConverter` writes it from a SavedModel.

    Raises:
        ValueError: it has no signature, or more than one.
    """
    model = flatbuffer_utils.read_model(str(path))
    signatures = model.signatureDefs or []
    if len(signatures) != 1:
        raise ValueError(f"{path}: expected one signature, got {len(signatures)}")
    (signature,) = signatures
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    named = [*signature.inputs, *signature.outputs]
    if all(tensors[each.tensorIndex].name == each.name for each in named):
        return
    for each in named:
        tensors[each.tensorIndex].name = each.name
    flatbuffer_utils.write_model(model, str(path))


if __name__ == "__main__":
    name_tensors(Path(sys.argv[1]))
