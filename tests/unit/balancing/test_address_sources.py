"""Addresses from a DNS name and from a file; what cannot be used is said in words, never taken for empty."""

import os
import re
import socket
from pathlib import Path

import pytest

from gateway.balancing.address_sources import DnsSource, FileSource, LookupFailed, resolve


async def test_every_record_of_a_name_is_an_address_with_its_port() -> None:
    async def two_pods(name: str) -> list[str]:
        assert name == "triton.inferway"
        return ["10.0.0.7", "fd00::7", "10.0.0.7"]

    found = await DnsSource("triton.inferway:8001", two_pods)()
    assert found == {"10.0.0.7:8001", "[fd00::7]:8001"}


async def test_the_system_resolves_a_name() -> None:
    assert "127.0.0.1" in await resolve("localhost")
    assert await DnsSource("127.0.0.1:8001")() == {"127.0.0.1:8001"}


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UnicodeError("label too long")]
)
async def test_a_name_that_is_not_resolved_is_a_failure_that_says_why(error: Exception) -> None:
    async def no_answer(_: str) -> list[str]:
        raise error

    with pytest.raises(LookupFailed, match=r"^triton: (Name or service not known|label too long)$"):
        await DnsSource("triton:8001", no_answer)()


async def test_a_name_too_long_to_be_one_is_a_failure_too() -> None:
    with pytest.raises(LookupFailed, match="^" + "x" * 64):
        await DnsSource("x" * 64 + ".example:1")()


async def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "triton.yaml"
    path.write_text("- 10.0.0.1:8001\n- pod-2.example:8001\n- '[fd00::1]:8001'\n")
    source = FileSource(path)
    assert await source() == {"10.0.0.1:8001", "pod-2.example:8001", "[fd00::1]:8001"}
    path.write_text("[10.0.0.3:8001]")
    assert await source() == {"10.0.0.3:8001"}
    path.write_text("# all gone\n")
    assert await source() == frozenset()


async def test_a_file_that_has_not_changed_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "triton.yaml"
    path.write_text("[a:1]")
    source = FileSource(path)
    assert await source() == {"a:1"}
    monkeypatch.delattr(Path, "read_text")
    assert await source() == {"a:1"}


async def test_a_link_that_is_turned_is_a_change(tmp_path: Path) -> None:
    """As the kubelet does it: `triton.yaml` leads to `..data/triton.yaml`, and `..data` to another folder."""
    for name, content in (("first", "[a:1]"), ("other", "[b:1]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "triton.yaml").write_text(content)
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "triton.yaml").symlink_to("..data/triton.yaml")
    source = FileSource(tmp_path / "triton.yaml")
    assert await source() == {"a:1"}
    (tmp_path / "..tmp").symlink_to("other")
    os.replace(tmp_path / "..tmp", tmp_path / "..data")  # noqa: PTH105 - as the kubelet calls it
    assert await source() == {"b:1"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"- a:1\n- [b:\n", "not YAML: while parsing"),
        (b"\xff\xfe\xfa", "not YAML: 'utf-8' codec"),
        (b"a:1", "expected a list of host:port"),
        (b"{a: 1}", "expected a list of host:port"),
        (b"- a:1\n- b\n", "entry 2: an address is host:port, for example 127.0.0.1:8001"),
        (b"- 7\n", "entry 1: Input should be a valid string"),
    ],
)
async def test_a_file_that_cannot_be_used_is_a_failure_that_says_why(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "triton.yaml"
    if content is not None:
        path.write_bytes(content)
    source = FileSource(path)
    for _ in range(2):  # and again at the next look
        with pytest.raises(LookupFailed, match=f"^{re.escape(f'{path}: {why}')}"):
            await source()
    path.write_text("[a:1]")
    assert await source() == {"a:1"}
