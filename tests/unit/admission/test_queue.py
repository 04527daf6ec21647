"""WaitingQueue: highest priority, then earliest deadline, then first come; and the books are right."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.queue import WaitingQueue

ENTRIES = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1.0, 2.0, float("inf")]), st.integers(0, 9)))


@given(ENTRIES)
def test_it_serves_by_priority_then_deadline_then_coming(entries: list[tuple[int, float, int]]) -> None:
    queue: WaitingQueue[int] = WaitingQueue()
    for number, (priority, deadline, size) in enumerate(entries):
        queue.put(queue.place(priority, deadline, size, number))
    served = []
    while len(queue):
        place = queue.first()
        assert queue.ahead_of(place) == 0
        assert queue.remove(place)
        served.append(place.waiter)
    assert served == sorted(range(len(entries)), key=lambda number: (*entries[number][:2], number))
    assert queue.request_bytes == 0


@given(ENTRIES, st.data())
def test_whoever_leaves_takes_its_bytes_and_nobody_elses_place(
    entries: list[tuple[int, float, int]], data: st.DataObject
) -> None:
    queue: WaitingQueue[int] = WaitingQueue()
    places = [queue.place(*entry, number) for number, entry in enumerate(entries)]
    for place in places:
        queue.put(place)
    for place in data.draw(st.permutations(places)):
        assert queue.remove(place)
        assert not queue.remove(place)
        places.remove(place)
        assert queue.request_bytes == sum(other.request_bytes for other in places)
        assert sorted(places) == list(reversed(queue))[::-1]
