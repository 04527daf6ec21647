"""What every form of the network has in common and no checkpoint tells."""

STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
"""Of each inverted residual's depthwise convolution."""
ADDS = frozenset({2, 4, 5, 7, 8, 9, 11, 12, 14, 15})
"""The inverted residuals that add their input to what they project: of the same size and, unpruned, width."""
EPSILON = 1e-3
"""Added to the variance by batch normalization, as Keras does."""
