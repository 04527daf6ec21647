"""The models: one folder each, with the same file set, and what builds them for every backend."""
