"""The newest value, and no other."""

import threading

from portward.agent.mailbox import Mailbox


def test_the_newest_replaces_what_was_not_taken():
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.put(2)

    assert (box.take(), box.take()) == (2, None)


def test_what_is_put_back_does_not_replace_what_is_newer():
    box: Mailbox[int] = Mailbox()
    box.put(2)
    box.put_back(1)
    assert box.take() == 2

    box.put_back(1)
    assert box.take() == 1


def test_waiting_ends_with_a_value_or_with_the_mailbox():
    box: Mailbox[int] = Mailbox()
    got: list[int | None] = []
    taken = threading.Event()

    def take_two() -> None:
        got.append(box.wait())
        taken.set()
        got.append(box.wait())

    thread = threading.Thread(target=take_two)
    thread.start()
    box.put(1)
    assert taken.wait(5)
    box.close()
    thread.join(5)

    assert not thread.is_alive()
    assert got == [1, None]


def test_a_closed_mailbox_still_gives_what_is_in_it():
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.close()

    assert (box.wait(), box.wait()) == (1, None)
