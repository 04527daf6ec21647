"""ONNX Runtime and nothing else: how many inferences a second it makes of one input after another.

`python -m loadtests.bench.bare_onnx FILE INPUTS INPUT_NAME THREADS SECONDS` prints the figure. INPUTS is a
.npy file whose first axis counts inferences; THREADS calls run at once, each with one thread, as in the
engines.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime


def main() -> None:
    """Run for a second that does not count, then for SECONDS."""
    file, inputs, name, threads, seconds = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(Path(file), options, providers=["CPUExecutionProvider"])
    rows = np.load(inputs)

    def work(until: float) -> int:
        count = 0
        while time.monotonic() < until:
            at = count % len(rows)
            session.run(None, {name: rows[at : at + 1]})
            count += 1
        return count

    with ThreadPoolExecutor(int(threads)) as pool:
        for length in (1.0, float(seconds)):
            began = time.monotonic()
            counts = list(pool.map(work, [began + length] * int(threads)))
        sys.stdout.write(f"{sum(counts) / (time.monotonic() - began)}\n")


if __name__ == "__main__":
    main()
