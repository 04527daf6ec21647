"""TensorFlow Serving: the real server in containers, a wire-compatible stand-in without them."""
