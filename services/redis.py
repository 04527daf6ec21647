"""Start the shared cache tier: Redis, as a cache and nothing else."""

import shutil
import socket
from pathlib import Path

from services.launch import Launch, LaunchError

PORT = 6379
PROBE_SECONDS = 1.0


def launch(
    *, run_dir: Path, port: int = PORT, host: str = "127.0.0.1", max_memory_bytes: int = 256 * 1024 * 1024
) -> Launch:
    """Say how to start Redis: nothing is written to disk, and at its limit the least recently used goes.

    Args:
        run_dir: its working folder and log.
        port: where to listen.
        host: the interface.
        max_memory_bytes: of keys and values.

    Raises:
        LaunchError: redis-server is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise LaunchError("redis-server is not installed (Debian: apt-get install redis-server)")
    run_dir.mkdir(parents=True, exist_ok=True)
    return Launch(
        name="redis",
        argv=[
            program,
            *("--bind", host),
            *("--port", str(port)),
            *("--save", ""),
            *("--appendonly", "no"),
            *("--maxmemory", str(max_memory_bytes)),
            *("--maxmemory-policy", "allkeys-lru"),
            *("--dir", str(run_dir)),
        ],
        is_ready=lambda: answers(host, port),
        log=run_dir / "redis.log",
        timeout_seconds=15.0,
        addresses={"redis": f"{host}:{port}"},
    )


def answers(host: str, port: int) -> bool:
    """Whether a Redis answers PING there."""
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
