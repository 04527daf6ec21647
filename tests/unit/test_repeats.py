"""What came before is told from what did not, and not too much of it is remembered."""

from gateway.repeats import Repeats


def test_what_is_asked_about_again_came_before() -> None:
    repeats = Repeats(10)
    assert [repeats.has(each) for each in (b"a", b"b", b"a", (b"a", 1), b"b")] == [
        False,
        False,
        True,
        False,
        True,
    ]


def test_all_is_forgotten_when_there_would_be_too_much() -> None:
    repeats = Repeats(3)
    for number in range(10):
        assert not repeats.has(number)
        assert len(repeats) <= 3
    assert not repeats.has(0)
