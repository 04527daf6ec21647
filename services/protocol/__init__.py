"""Minimal messages of each backend's protocol, and the stubs generated from them."""
