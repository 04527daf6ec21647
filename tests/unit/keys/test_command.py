"""`python -m gateway.keys`: makes keys that open, lists them, and says in one line what is wrong."""

import stat
from pathlib import Path

import pytest

from gateway.keys.__main__ import main
from gateway.keys.key_file import KeyFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def made(file: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["new", "team", "--file", str(file), *options]) == 0
    return capsys.readouterr().out.strip()


def test_a_new_key_is_printed_once_and_its_secret_is_nowhere(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = made(file, capsys, "--model", "a", "--model", "b", "--per-second", "5", "--per-day", "9")
    assert key.rpartition("_")[2] not in file.read_text()
    assert main(["check", "--file", str(file), key]) == 0
    assert capsys.readouterr().out == "valid: team\n"
    assert main(["list", "--file", str(file)]) == 0
    listed = capsys.readouterr().out
    assert listed == f"{key[4:16]}  team  a, b  5/s, burst 5, 9/day  valid\n"


def test_only_its_owner_may_read_a_new_file_and_another_keeps_its_mode(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(file, capsys)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    made(file, capsys)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert len(KeyFile(file).keys) == 2


def test_what_people_wrote_into_the_file_stays(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(file, capsys)
    file.write_text("# ours\n" + file.read_text())
    made(file, capsys)
    assert file.read_text().startswith("# ours\nkeys:\n")
    assert len(KeyFile(file).keys) == 2
    assert [path.name for path in file.parent.iterdir()] == ["keys.yaml"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--burst", "3"], "burst needs requests_per_second"),
        (["--per-day", "-1"], "requests_per_day: Input should be greater than or equal to 0"),
        (["--expires", "soon"], "--expires: not a time: 'soon'; for example 2030-01-31T12:00:00Z"),
        (["--model", "a b"], "models.0: String should match pattern"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(
    file: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["new", "team", "--file", str(file), *options]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(said)
    assert (printed.err.count("\n"), printed.out, file.exists()) == (1, "", False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys: [", ":2: not YAML"),
        ("keys:\n  x: {}\n", ":2: keys.x"),
        ("keys:\n  0123456789ab: {name: a, sha256: x, quota: 1}\n", "keys.0123456789ab.quota: unknown key"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file.write_text(text)
    assert main(["list", "--file", str(file)]) == 2
    assert said in capsys.readouterr().err


def test_a_key_that_is_not_valid_is_1(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = made(file, capsys, "--expires", "2020-01-01")
    for asked, said in ((key, "expired"), ("ifw_x", "not valid"), (key[:-2] + "AA", "not valid")):
        assert main(["check", "--file", str(file), asked]) == 1
        assert said in capsys.readouterr().err


def test_without_a_redis_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--redis", "redis://127.0.0.1:1/0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert {"new", "list", "check"} <= set(capsys.readouterr().out.split())
