"""The network's numbers that no checkpoint's shape shows; network.py and the TensorFlow form share them."""

PAD = 0
"""The id of [PAD]."""
EPSILON = 1e-12
FAR = -1e4
"""Added to the score of a padded position: its weight is exactly 0 in float32, and no row is NaN."""
BASE = 768
"""Width of bert-base-chinese."""


def head_width(hidden: int) -> int:
    """Columns of one attention head: 64 in BERT's base size and above, 32 in small ones such as e5-small."""
    return 64 if hidden >= BASE else 32
