"""TensorFlow Serving: the real server in containers, a wire-compatible stand-in without them."""

import os

# On CPUs with AVX-512 TensorFlow takes oneDNN's kernels, and there an image without its batch axis ends the
# process ("Check failed ... Invalid index from the dimension") where the others answer with an error.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
