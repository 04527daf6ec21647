"""Which digit a 28x28 grayscale image shows."""
