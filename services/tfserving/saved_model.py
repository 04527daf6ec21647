"""One loaded SavedModel: a session over the graph that the loader restores, as in the real server.

It is fed and fetched by the tensor names of a signature; what fails in the graph has TensorFlow's own text.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.config_pb2 import CallableOptions
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from services.tfserving.servables import ServingError
from services.tfserving.signatures import find_signature, read_inputs, wanted_outputs


class SavedModel:
    """A Model.

    Args:
        folder: the version's folder.
        intra_op_threads: threads of one operation; 0: as many as cores.
        inter_op_threads: operations at a time; 0: as many as cores.
    """

    def __init__(self, folder: Path, *, intra_op_threads: int, inter_op_threads: int) -> None:
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads, inter_op_parallelism_threads=inter_op_threads
        )
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        with graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        self.signatures: dict[str, SignatureDef] = dict(loaded.signature_def)
        self._callables: dict[tuple[str, ...], Callable[..., list[Any]]] = {}

    def predict(
        self, signature_name: str, inputs: Mapping[str, TensorProto], output_filter: Iterable[str]
    ) -> dict[str, NDArray[Any]]:
        """Run a signature (ServingError when it cannot be)."""
        signature = find_signature(self.signatures, signature_name)
        arrays = read_inputs(signature, inputs)
        names = wanted_outputs(signature, output_filter)
        feeds = [signature.inputs[name].name for name in arrays]
        run = self._callable(feeds, [signature.outputs[name].name for name in names])
        try:
            values = run(*arrays.values())
        except tf.errors.OpError as error:
            code = next(each for each in grpc.StatusCode if each.value[0] == error.error_code)
            raise ServingError(code, error.message) from error
        return dict(zip(names, values, strict=True))

    def _callable(self, feeds: list[str], fetches: list[str]) -> Callable[..., list[Any]]:
        """The session's run for these names, bound once: a third of what `Session.run` costs."""
        key = (*feeds, "", *fetches)
        if key not in self._callables:
            options = CallableOptions(feed=feeds, fetch=fetches)
            self._callables[key] = self._session._make_callable_from_options(options)  # noqa: SLF001
        return self._callables[key]
