"""What a reply to CLUSTER SLOTS says."""

from gateway.redis_cluster import masters_in


def test_each_range_of_slots_has_its_master_and_replicas_do_not_count() -> None:
    reply = [
        [8192, 16383, [b"10.0.0.2", 6379, b"b", []], [b"10.0.0.4", 6379, b"d", []]],
        [0, 8191, [b"redis-0.example", 6380, b"a", [b"ip", b"10.0.0.1"]]],
    ]
    assert masters_in(reply, "seed") == [(0, 8191, "redis-0.example:6380"), (8192, 16383, "10.0.0.2:6379")]


def test_a_node_that_does_not_know_its_own_address_is_where_it_was_asked() -> None:
    for unknown in (b"", None):
        assert masters_in([[0, 16383, [unknown, 7000, b"a"]]], "seed") == [(0, 16383, "seed:7000")]


def test_an_address_of_ipv6_is_put_in_brackets() -> None:
    assert masters_in([[0, 1, [b"::1", 7000, b"a"]]], "seed") == [(0, 1, "[::1]:7000")]
