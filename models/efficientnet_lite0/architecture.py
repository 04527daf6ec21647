"""What a checkpoint's shapes do not say; without torch, which TensorFlow's environment lacks."""

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of each inverted residual's depthwise convolution."""
