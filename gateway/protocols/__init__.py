"""The edge towards clients: one file per wire protocol, each faithful to its own specification.

A REST module has `routes(edge: Edge) -> list[Route]`, built with `http.Routes`; a gRPC module has
`methods(edge: Edge) -> Methods`, built with `grpc_calls.Service`. The composition root joins them.
"""
