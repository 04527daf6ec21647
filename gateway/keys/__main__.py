"""`python -m gateway.keys`: makes API keys, lists them and checks one."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from redis import Redis, RedisCluster
from redis.exceptions import RedisError

from gateway.configuration import ConfigurationError
from gateway.errors import InferwayError
from gateway.keys.key import Key, KeySpec, new_secret, split, verify
from gateway.keys.key_file import read_keys
from gateway.keys.key_store import PREFIX


class _Fault(Exception):
    """What the user has to mend, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 2 when it cannot be done, 1 when `check` finds that a key is not valid."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except InferwayError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (_Fault, ConfigurationError, RedisError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.keys", description="API keys of the gateway.")
    commands = parser.add_subparsers(required=True, metavar="new|list|check")
    new = commands.add_parser("new", help="make a key, store its digest, and print it: once, it is not kept")
    new.add_argument("name", help="whose it is")
    new.add_argument("--model", action="append", default=[], dest="models", help="it may call only this one")
    new.add_argument("--per-second", type=float, default=0.0, metavar="N", help="requests in the long run")
    new.add_argument("--burst", type=int, default=0, metavar="N", help="requests at once")
    new.add_argument("--per-day", type=int, default=0, metavar="N", help="requests a day (UTC)")
    new.add_argument("--expires", metavar="TIME", help="for example 2030-01-31 or 2030-01-31T12:00:00Z")
    new.set_defaults(run=_new)
    listing = commands.add_parser("list", help="show every key, without its secret")
    listing.set_defaults(run=_list)
    check = commands.add_parser("check", help="say whose a key is, and whether it is valid")
    check.add_argument("key", nargs="?", help="asked for where it is left out, so that no shell keeps it")
    check.set_defaults(run=_check)
    for command in (new, listing, check):
        where = command.add_mutually_exclusive_group(required=True)
        where.add_argument("--file", type=Path, help="the key file: `keys.file` of the gateway")
        where.add_argument("--redis", metavar="URL", help="the keys' Redis: `keys.redis.url` of the gateway")
        command.add_argument("--cluster", action="store_true", help="that URL leads to a cluster")
    return parser


def _new(asked: argparse.Namespace) -> int:
    key_id, sha256, key = new_secret()
    stored = {"name": asked.name, "sha256": sha256, "models": asked.models, "burst": asked.burst}
    stored |= {"requests_per_second": asked.per_second, "requests_per_day": asked.per_day}
    if asked.expires:
        stored["expires"] = _time(asked.expires)
    try:
        spec = KeySpec.model_validate(stored)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise _Fault(f"{place}: {message}" if place else message) from error
    if asked.file:
        _append(asked.file, key_id, spec.model_dump(mode="json", exclude_defaults=True))
    else:
        text = spec.model_dump_json(exclude_defaults=True)
        with _opened(asked) as redis:
            redis.set(PREFIX + key_id, text)
    sys.stdout.write(f"{key}\n")
    return 0


def _list(asked: argparse.Namespace) -> int:
    for key in sorted(_stored(asked).values(), key=lambda key: key.name):
        limits = [f"{key.per_second:g}/s, burst {key.burst}"] if key.per_second else []
        limits += [f"{key.per_day}/day"] if key.per_day else []
        models = ", ".join(sorted(key.models)) or "every model"
        row = (key.id, key.name, models, ", ".join(limits) or "no limit", _state(key))
        sys.stdout.write("  ".join(row) + "\n")
    return 0


def _check(asked: argparse.Namespace) -> int:
    key_id, sha256 = split(asked.key or getpass("key: "))
    key = verify(_stored(asked).get(key_id), sha256, datetime.now(UTC).timestamp())
    sys.stdout.write(f"valid: {key.name}\n")
    return 0


def _stored(asked: argparse.Namespace) -> dict[str, Key]:
    if asked.file:
        return read_keys(asked.file)
    with _opened(asked) as redis:
        texts = {name.decode(): redis.get(name) for name in redis.scan_iter(f"{PREFIX}*")}
    ids = {name.removeprefix(PREFIX): text for name, text in texts.items() if text is not None}
    try:
        return {key_id: Key.of(key_id, KeySpec.model_validate_json(text)) for key_id, text in ids.items()}
    except ValidationError as error:
        raise _Fault(f"{asked.redis}: holds a key that cannot be read: {error.errors()[0]['msg']}") from error


def _opened(asked: argparse.Namespace) -> Redis | RedisCluster:
    return (RedisCluster if asked.cluster else Redis).from_url(asked.redis)


def _append(path: Path, key_id: str, stored: dict[str, Any]) -> None:
    """Write a new file beside the old one and put it in its place: a gateway never reads half of one."""
    read_keys(path) if path.exists() else None
    text = path.read_text(encoding="utf-8").rstrip() if path.exists() else "keys:"
    lines = yaml.safe_dump({key_id: stored}, sort_keys=False, allow_unicode=True).splitlines()
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as new:
        new.write("\n".join([text, *(f"  {line}" for line in lines), ""]))
    written = Path(new.name)
    try:
        if path.exists():
            written.chmod(path.stat().st_mode & 0o777)
        if key_id not in read_keys(written):
            raise _Fault(f"{path}: cannot add to it: `keys:` must be its last section")
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise _Fault(f"--expires: not a time: '{text}'; for example 2030-01-31T12:00:00Z") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _state(key: Key) -> str:
    if key.is_disabled:
        return "disabled"
    if key.expires_at == float("inf"):
        return "valid"
    end = datetime.fromtimestamp(key.expires_at, UTC)
    return f"{'expired' if end <= datetime.now(UTC) else 'valid'} until {end:%Y-%m-%d %H:%M} UTC"


if __name__ == "__main__":
    sys.exit(main())
