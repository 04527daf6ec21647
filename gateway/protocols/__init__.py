"""The edge towards clients: one file per wire protocol, each faithful to its own specification.

A REST module has `routes(edge: Edge) -> list[Route]`, built with `http.Routes`; a gRPC module has
`handlers(edge: Edge) -> list[grpc.GenericRpcHandler]`, built with `grpc_calls.Methods`. The composition root
calls nothing else of them, but `grpc_reflection.enable_reflection(server)`.
"""
