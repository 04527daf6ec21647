"""Reads weights out of the HDF5 files that Keras writes: whole models of Keras 3, weights alone of Keras 2.

Keras 2 names a tensor `block_1_expand/block_1_expand/kernel:0`, and a depthwise kernel `depthwise_kernel:0`;
Keras 3 `model_weights/mobilenetv2_1.00_160/block_1_expand/kernel`. In both, the last group is the layer.
"""

import io

import h5py
import numpy as np
from numpy.typing import NDArray


def read(data: bytes) -> dict[str, NDArray[np.float32]]:
    """The tensors of a file by layer and name, such as `block_1_expand/kernel`, without the optimizer's.

    Args:
        data: the whole file.

    Raises:
        OSError: not an HDF5 file.
    """
    found: dict[str, NDArray[np.float32]] = {}

    def visit(path: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and not path.startswith("optimizer_weights/"):
            *_, layer, name = path.split("/")
            found[f"{layer}/{name.partition(':')[0].replace('depthwise_kernel', 'kernel')}"] = item[()]

    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(visit)
    return found
