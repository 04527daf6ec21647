"""A process that ends is started again at once; one that ends again and again, ever later."""

from gateway.supervisor.back_off import LAST_SECONDS, STEADY_SECONDS, BackOff


def test_the_first_end_is_mended_at_once_and_each_further_one_later_up_to_a_limit() -> None:
    back_off = BackOff()
    waits = [back_off.after(0.1) for _ in range(10)]
    assert waits[:4] == [0.0, 0.5, 1.0, 2.0]
    assert waits == sorted(waits)
    assert waits[-1] == LAST_SECONDS


def test_a_process_that_lived_for_long_is_started_again_at_once() -> None:
    back_off = BackOff()
    for _ in range(5):
        back_off.after(0.1)
    assert back_off.after(STEADY_SECONDS) == 0.0
