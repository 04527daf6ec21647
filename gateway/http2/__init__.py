"""HTTP/2 as a gRPC client needs it: unary calls over one connection, in the event loop's own thread.

grpc.aio takes four to five times as much CPU for a call: its threads wake each other and then the event loop.
docs/decisions/0014-own-grpc-client.md has the figures, and what else was tried.
"""
