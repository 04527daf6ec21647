"""The servers that `make bench` compares with, each run by its own environment: `.venvs/bench-<name>`.

A file here imports its own server's package, numpy and ONNX Runtime, and nothing of Inferway. All of them
load the same ONNX file (environment variable BENCH_ONNX), run it with one thread and join up to 32 requests.
"""
