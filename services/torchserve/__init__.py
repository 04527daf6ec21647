"""TorchServe: the handler that runs in its workers, its configuration, and its local start."""
