"""The delays between attempts."""

from portward.channel.backoff import Backoff


def _longest(low: float, high: float) -> float:
    assert (low, high) == (0.5, 1.0)
    return high


def test_delays_double_up_to_the_longest():
    backoff = Backoff(0.1, 5.0, uniform=_longest)

    assert [backoff.delay() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_success_begins_with_the_shortest_again():
    backoff = Backoff(0.1, 5.0, uniform=_longest)
    for _ in range(5):
        backoff.delay()

    backoff.reset()

    assert backoff.delay() == 0.1


def test_two_agents_do_not_come_back_in_step():
    backoffs = [Backoff(1.0, 1.0) for _ in range(20)]

    delays = {backoff.delay() for backoff in backoffs}

    assert len(delays) > 10
    assert all(0.5 <= delay <= 1.0 for delay in delays)
