"""HTTP/2 as gRPC needs it, on both sides of the gateway, in the event loop's own thread.

A client's unary calls (`connection.py`, `call.py`), and a server's calls and streams (`server_connection.py`,
`streams.py`, `incoming.py`). grpc.aio takes four to ten times as much CPU for a call: its threads wake each
other and then the event loop. docs/decisions/0014-own-grpc-client.md and 0015-own-grpc-server.md have the
figures, and what else was tried.
"""
