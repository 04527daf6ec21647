"""The listeners' certificate: mistakes are one line at the start, renewals are seen through links."""

import os
import shutil
from pathlib import Path

import pytest

from gateway.app import build
from gateway.configuration import ConfigurationError
from gateway.file_watch import FileWatch
from gateway.settings import Settings
from tests.certificates import Authority


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two certificates that both fit themselves, and a file that is none."""
    for name in ("one", "two"):
        files = Authority(tmp_path / name).issue("gateway")
        shutil.copy(files.certificate, tmp_path / f"{name}.crt")
        shutil.copy(files.key, tmp_path / f"{name}.key")
    (tmp_path / "broken").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (
            {"certificate": "no.crt", "key": "one.key"},
            r"server\.tls: .*no\.crt: cannot be read: No such file",
        ),
        (
            {"certificate": "one.crt", "key": "no.key"},
            r"server\.tls: .*no\.key: cannot be read: No such file",
        ),
        ({"certificate": "one.crt", "key": "two.key"}, r"server\.tls: cannot use .*: key values mismatch"),
        ({"certificate": "broken", "key": "one.key"}, r"server\.tls: cannot use .*broken"),
        (
            {"certificate": "one.crt", "key": "one.key", "client_ca": "broken"},
            r"server\.tls: cannot use .*broken: no certificate or crl found",
        ),
        (
            {"certificate": "one.crt", "key": "one.key", "client_ca": "no.ca"},
            r"server\.tls: .*no\.ca: cannot be read: No such file",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_one_line(folder: Path, tls: dict[str, str], said: str) -> None:
    settings = Settings.model_validate({"server": {"tls": tls}})
    with pytest.raises(ConfigurationError, match=said) as refused:
        build(settings, folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"server": {"tls": {"certificate": "a"}}}, "certificate and key go together"),
        ({"server": {"tls": {"client_ca": "a"}}}, "client_ca needs certificate and key"),
        ({"cache": {"redis": {"url": "redis://a", "ca": "a"}}}, "ca needs a url that starts with rediss"),
        (
            {"endpoints": {"e": {"backend": "triton", "address": "a:1", "tls": {"server_name": "b"}}}},
            "certificate and server_name need ca",
        ),
        (
            {"endpoints": {"e": {"backend": "onnxruntime", "repository": "r", "tls": {"ca": "b"}}}},
            "onnxruntime runs inside the gateway",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings.model_validate(section)


def test_a_link_that_turns_is_a_change_and_a_look_alone_is_none(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_text(name[0])
    data = tmp_path / "..data"
    data.symlink_to("first")
    (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
    watch = FileWatch([tmp_path / "tls.crt", tmp_path / "not_there"])
    assert not watch.changed()
    turned = tmp_path / "..new"
    turned.symlink_to("second")
    os.replace(turned, data)  # noqa: PTH105 - as the kubelet does it
    assert watch.changed()
    assert not watch.changed()
    (tmp_path / "not_there").write_text("now")
    assert watch.changed()
