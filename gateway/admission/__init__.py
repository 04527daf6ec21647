"""How many requests a pool is sent at once, and who waits or is shed; pure parts of `stages/admission.py`."""
