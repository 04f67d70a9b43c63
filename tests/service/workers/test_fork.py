import pytest

from service.workers.fork import describe_exit, restart_delay


def test_worker_starts_at_once_and_ever_later_where_it_falls():
    assert [restart_delay(falls) for falls in (0, 1, 2, 3, 4, 5, 6, 100)] == [0, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(("exitcode", "how"), [(-9, "signal 9"), (2, "exit code 2"), (0, "exit code 0")])
def test_end_is_told(exitcode: int, how: str):
    assert describe_exit(exitcode) == how
