"""The queue of a pool: in order, fair between callers, within bounds, and nothing that has expired."""

from typing import Any

from gateway.batching.fair_queue import Bounds, Closed, FairQueue, Item
from gateway.inference import Tensor
from tests.fakes import a_request

NOW = 1000.0
BOUNDS = Bounds(rows=8, max_rows=8, max_bytes=1000)


def item(name: str, *, client: str = "", rows: int = 1, size_bytes: int = 1, **changes: Any) -> Item[str]:
    values = Tensor("values", "INT8", (rows, 2), bytes(2 * rows))
    return Item(a_request(inputs=(values,), **changes), client, size_bytes, NOW, name)


def queued(*items: Item[str], key: str = "same") -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue()
    for each in items:
        queue.put(key, each)
    return queue


def take(queue: FairQueue[str], bounds: Bounds = BOUNDS) -> tuple[list[str], Closed]:
    taken = queue.take(queue.groups()[0], bounds, NOW)
    return [each.waiter for each in taken.items], taken.closed


def test_one_caller_is_served_in_order_and_all_that_waits_goes_together() -> None:
    queue = queued(item("a"), item("b"), item("c"))
    assert take(queue) == (["a", "b", "c"], Closed.EMPTY)
    assert len(queue) == 0


def test_a_batch_ends_at_its_rows() -> None:
    queue = queued(*(item(name, rows=3) for name in "abc"))
    assert take(queue) == (["a", "b"], Closed.ROWS)
    assert take(queue) == (["c"], Closed.EMPTY)


def test_it_ends_earlier_where_more_rows_would_be_late() -> None:
    queue = queued(*map(item, "abc"))
    assert take(queue, Bounds(rows=2, max_rows=8, max_bytes=1000)) == (["a", "b"], Closed.LATENCY)


def test_it_ends_at_its_bytes() -> None:
    queue = queued(*(item(name, size_bytes=400) for name in "abc"))
    assert take(queue) == (["a", "b"], Closed.BYTES)


def test_one_request_over_every_bound_goes_alone() -> None:
    queue = queued(item("large", rows=20, size_bytes=5000), item("b"))
    assert take(queue) == (["large"], Closed.ROWS)


def test_the_largest_preferred_size_that_can_be_filled_is_taken() -> None:
    bounds = Bounds(rows=8, max_rows=8, max_bytes=1000, preferred_rows=(2, 4, 16))
    queue = queued(*map(item, "abcdefg"))
    assert take(queue, bounds) == (list("abcd"), Closed.PREFERRED)
    assert take(queue, bounds) == (list("ef"), Closed.PREFERRED)
    assert take(queue, bounds) == (["g"], Closed.EMPTY)


def test_what_may_not_join_waits_in_groups_and_who_came_first_goes_first() -> None:
    queue = queued(item("a"), item("b"))
    queue.put("other", item("x"))
    queue.put("same", item("c"))
    assert take(queue)[0] == ["a", "b", "c"]
    assert take(queue)[0] == ["x"]


def test_a_caller_with_many_rows_does_not_hold_up_one_with_few() -> None:
    queue = queued(*(item(f"big{i}", client="big", rows=4) for i in range(10)))
    for i in range(4):
        queue.put("same", item(f"small{i}", client="small"))
    assert take(queue)[0] == ["big0", "small0", "small1", "small2", "small3"]


def test_callers_with_the_same_load_take_turns_by_rows() -> None:
    queue = queued(
        *(item(f"a{i}", client="a", rows=2) for i in range(4)),
        *(item(f"b{i}", client="b") for i in range(8)),
    )
    first, _ = take(queue)
    assert sorted(first) == ["a0", "a1", "b0", "b1", "b2", "b3"]


def test_a_caller_that_comes_later_is_not_served_for_the_time_it_was_away() -> None:
    queue = queued(*(item(f"a{i}", client="a") for i in range(20)))
    take(queue)
    for i in range(10):
        queue.put("same", item(f"b{i}", client="b"))
    names, _ = take(queue)
    assert sorted(name[0] for name in names) == ["a"] * 4 + ["b"] * 4


def test_what_has_expired_is_in_no_batch_and_takes_nobodys_place() -> None:
    late = item("late", deadline=NOW)
    later = item("later", deadline=NOW - 1)
    queue = queued(late, later, *map(item, "abcdefgh"))
    taken = queue.take(queue.groups()[0], BOUNDS, NOW)
    assert taken.expired == [late, later]
    assert [each.waiter for each in taken.items] == list("abcdefgh")


def test_who_leaves_is_gone_at_once_and_the_rest_stays_in_order() -> None:
    items = [item(name) for name in "abcd"]
    queue = queued(*items)
    queue.remove(items[0])
    queue.remove(items[2])
    queue.remove(items[2])
    assert len(queue) == 2
    assert take(queue)[0] == ["b", "d"]
    queue.remove(items[1])
    assert queue.groups() == []


def test_callers_that_have_gone_are_forgotten() -> None:
    queue = queued(item("stays"))
    for i in range(1000):
        queue.put("same", item(str(i), client=f"caller {i}"))
        take(queue, Bounds(rows=1, max_rows=1, max_bytes=1000))
    assert len(queue._ends) < 100
