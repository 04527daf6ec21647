"""What a look-up changes: what is new comes, what is gone goes, and nothing found changes nothing."""

from gateway.balancing.discovery import Change, change


def test_what_is_new_comes_and_what_is_gone_goes() -> None:
    assert change({"a:1", "b:1"}, {"b:1", "d:1", "c:1"}) == Change(("c:1", "d:1"), ("a:1",))


def test_the_same_addresses_in_another_order_change_nothing() -> None:
    assert change(["a:1", "b:1"], ["b:1", "a:1"]) == Change()


def test_nothing_found_changes_nothing() -> None:
    assert change({"a:1", "b:1"}, ()) == Change()
    assert change((), ()) == Change()


def test_the_first_look_up_brings_everything() -> None:
    assert change((), {"b:1", "a:1"}) == Change(("a:1", "b:1"))
