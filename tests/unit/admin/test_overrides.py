"""Of two changes of the same thing the later one holds, and an undrain leaves nothing."""

from gateway.admin.overrides import Change, Overrides


def test_the_later_change_of_the_same_thing_holds() -> None:
    first, later = Change("weight", "m", value=0.1), Change("weight", "m", value=0.0)
    label = Change("label", "m", "prod", "1")
    assert list(Overrides([first, label, later])) == [label, later]
    assert later.to_json() == {"action": "weight", "name": "m", "value": 0.0}


def test_an_undrain_takes_the_drain_back_and_shows_nothing() -> None:
    assert not list(Overrides([Change("drain", "e"), Change("undrain", "e")]))
    assert [change.name for change in Overrides([Change("drain", "e"), Change("undrain", "other")])] == ["e"]
