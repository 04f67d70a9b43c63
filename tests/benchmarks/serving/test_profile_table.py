from benchmarks.serving.profile_table import count


def test_samples_are_counted_by_function_and_waiting_threads_left_out():
    lines = [
        "main (a.py:1);run (b.py:10) 3",
        "main (a.py:2);run (b.py:12) 2",
        "main (a.py:2);run (b.py:12);run (b.py:12) 1",
        "main (a.py:2) 4",
        "work (c.py:1);Condition.wait (threading.py:331) 9",
    ]
    alone, within = count(lines)
    assert alone == {"main (a.py)": 4, "run (b.py)": 6}
    assert within == {"main (a.py)": 10, "run (b.py)": 6}
