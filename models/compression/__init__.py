"""What makes a network smaller and faster: int8 quantization, and the removal of channels."""
