import fcntl
import os
import threading

import numpy as np
import pytest

from service.workers import pipe
from service.workers.pipe import open_backlog, open_pipe


def test_messages_arrive_whole_and_in_order():
    inbox, outbox = open_pipe()
    assert inbox.receive() == []
    outbox.send({"a": 1})
    outbox.send("b")
    assert inbox.receive() == [{"a": 1}, "b"]
    outbox.send(np.arange(5))
    (array,) = inbox.receive()
    np.testing.assert_array_equal(array, np.arange(5))
    outbox.close()
    assert inbox.receive() == [] and inbox.ended
    inbox.close()


def test_half_a_message_waits_for_its_end_and_nobody_waits_for_it():
    whole, sender = open_pipe()
    sender.send("first")
    sender.send("second")
    content = os.read(whole.fd, 1000)
    inbox, outbox = open_pipe()
    received = []
    for at in range(len(content)):
        os.write(outbox.fd, content[at : at + 1])
        received.append(inbox.receive())
    assert [message for messages in received for message in messages] == ["first", "second"]
    assert received[-1] == ["second"]
    for end in (whole, sender, inbox, outbox):
        end.close()


def test_sender_waits_while_the_pipe_is_full_and_nothing_is_lost():
    inbox, outbox = open_pipe()
    messages = [np.full(pipe.CAPACITY // 16, number) for number in range(6)]  # half the pipe each
    sender = threading.Thread(target=lambda: [outbox.send(message) for message in messages])
    sender.start()
    sender.join(0.1)
    assert sender.is_alive()
    received = []
    while len(received) < len(messages):
        received += inbox.receive()
    sender.join()
    assert [array[0] for array in received] == list(range(6))
    inbox.close()
    with pytest.raises(BrokenPipeError):
        outbox.send("to nobody")
    outbox.close()


def test_sender_with_a_backlog_never_waits_and_nothing_is_lost():
    inbox, backlog = open_backlog()
    messages = [np.full(pipe.CAPACITY // 16, number) for number in range(3)]  # more than any pipe has room for
    for message in messages:
        backlog.send(message)
    assert not backlog.flush()
    received: list[np.ndarray] = []
    while len(received) < len(messages):
        backlog.flush()
        received += inbox.receive()
    assert [array[0] for array in received] == list(range(3)) and backlog.flush()
    backlog.send("last")
    assert inbox.receive() == ["last"]
    inbox.close()
    backlog.send("to nobody")
    assert backlog.flush()
    backlog.close()


def test_pipe_that_stays_small_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def refuse(*_: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    for end in open_pipe():
        end.close()
    assert "a worker's pipe holds less than it should (Operation not permitted)" in caplog.text
