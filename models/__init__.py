"""The models: one folder each, with the same file set, and what builds them for every backend."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as in gateway/__init__.py
