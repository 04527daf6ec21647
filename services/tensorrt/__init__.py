"""The TensorRT backend: Triton Inference Server, its model repository, and the builder of its plans."""
