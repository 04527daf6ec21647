"""A planted secret is found, of every kind that is likely here, and nothing that only looks like one."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.keys.key import new_secret
from services.secret_scan import find
from tests.serving import ROOT

PRIVATE_KEY = "-----BEGIN RSA " + "PRIVATE KEY-----"  # in two parts: this file is scanned too
AWS = "AKIA" + "Z7QXNB3KLMT5WHRC"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        pytest.param(f"key: {new_secret()[2]}", "Inferway API key", id="new"),  # a name that stays
        (PRIVATE_KEY, "Private Key"),
        (f'id = "{AWS}"', "AWS Access Key"),
        ('url = "redis://user:' + 'pa55word@host/0"', "Basic Auth Credentials"),
        ("redis_password: " + "'cZ9tRb2qLx'", "Secret Keyword"),
        ("redis_password: " + "'cZ9tRb2qLx'  # not in a key_file", "Secret Keyword"),
        ("requirepass " + "Zx8Kq2Lm9Pw4", "Redis password"),
        ("url: redis://:" + "pa55word@host/0", "Redis password"),
        ("{url: redis://:" + "pa55word@host/0, password_file: x}", "Redis password"),
    ],
)
def test_a_planted_secret_is_found_with_its_line(tmp_path: Path, line: str, kind: str) -> None:
    (tmp_path / "plan.yaml").write_text(f"# a file\n{line}\n")
    assert f"plan.yaml:2: {kind}" in list(find(tmp_path, ["plan.yaml"]))


@pytest.mark.parametrize(
    "line",
    [
        "sha256: " + "0993f97171d2c4c1d9e7573590894ed444f30916f8d83759dcfde97930a30fde",
        "password_file: secrets/redis_password",
        "secretName: inferway-tls",
        'url: "redis://127.0.0.1:6379/0"',
        "requirepass $(cat /run/secrets/redis_password)",
        pytest.param(f"key: {new_secret()[2]}  # pragma: allowlist secret", id="allowed"),
    ],
)
def test_what_only_looks_like_one_is_not(tmp_path: Path, line: str) -> None:
    (tmp_path / "plan.yaml").write_text(f"{line}\n")
    assert list(find(tmp_path, ["plan.yaml"])) == []


def test_lint_fails_on_a_planted_secret(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "-m services.secret_scan" in makefile[makefile.index("\nlint:") : makefile.index("\nformat:")]
    copy = tmp_path / "services" / "secret_scan.py"
    copy.parent.mkdir()
    copy.write_text((ROOT / "services" / "secret_scan.py").read_text())
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    scan = [sys.executable, str(copy)]
    assert subprocess.run(scan, check=False).returncode == 0
    (tmp_path / "notes.txt").write_text(f"{PRIVATE_KEY}\n")
    failed = subprocess.run(scan, check=False, capture_output=True, text=True)
    assert (failed.returncode, failed.stderr.partition(";")[0]) == (
        1,
        "notes.txt:1: Private Key: looks like a secret",
    )
    assert (
        subprocess.run(scan, check=False, capture_output=True).returncode == 1
    )  # and again: it is not clean
