"""Several gateway processes on the same ports, and the one that starts them."""
