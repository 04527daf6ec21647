"""Shapes of load, one file each: given to locust beside locustfile.py, as `make load SHAPE=...` does."""
