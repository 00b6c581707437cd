"""What is counted is kept: over repeated readings, places that go, restarts, torn files and disks that fail."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from portward.agent.ledger import Ledger
from portward.channel.messages import Total
from portward.dataplane.protocol import Count, Reading

T0 = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Life:
    """A ledger at a time that the test tells; ``place(rule=packets)`` of 10 bytes each is a reading."""

    def __init__(self, directory: Path, at: datetime = T0) -> None:
        self.at = at
        self.ledger = Ledger(directory, now=lambda: self.at, clock=lambda: (self.at - T0).total_seconds())
        self.ledger.load()

    def packets(self) -> dict[str, int]:
        return {rule_id: total.packets for rule_id, total in self.ledger.totals().items()}


def place(name: str, **packets: int) -> list[Reading]:
    return [Reading(name, {rule_id: Count(number, 10 * number) for rule_id, number in packets.items()})]


def test_what_grew_since_the_last_reading_of_a_place_is_added_with_when_it_was_seen(tmp_path: Path):
    life = Life(tmp_path)
    life.ledger.count(["a", "b"])
    life.at += SECOND
    life.ledger.add(place("x", a=3, b=0))
    life.at += SECOND
    life.ledger.add(place("x", a=3, b=0) + place("y", a=2))
    life.at += SECOND
    life.ledger.add(place("x", a=3, b=0))

    assert life.ledger.totals() == {
        "a": Total(packets=5, bytes=50, since=T0, last=T0 + 2 * SECOND),
        "b": Total(packets=0, bytes=0, since=T0, last=None),
    }


def test_a_place_that_is_kept_again_after_it_grew_loses_and_doubles_nothing(tmp_path: Path):
    life = Life(tmp_path)
    life.ledger.keep(place("x", a=3))
    life.ledger.keep(place("x", a=4))
    life.ledger.forget(place("x"))
    life.ledger.add(place("y", a=1))
    assert life.packets() == {"a": 5}


@pytest.mark.parametrize("saved", [True, False])
def test_a_death_between_keeping_and_removing_is_made_good_by_the_next_life(tmp_path: Path, saved: bool):
    life = Life(tmp_path)
    life.ledger.add(place("x", a=2))
    if saved:
        assert life.ledger.save()
    life.ledger.keep(place("x", a=3))

    assert Life(tmp_path).packets() == {"a": 3}
    again = Life(tmp_path)
    again.ledger.keep(place("x", a=3))
    assert again.packets() == {"a": 3}


def test_a_death_between_the_file_and_the_journals_end_applies_no_line_twice(tmp_path: Path):
    life = Life(tmp_path)
    life.ledger.keep(place("x", a=3))
    life.ledger.forget(place("x"))
    journal = (tmp_path / "counters.journal").read_bytes()
    assert life.ledger.save()
    (tmp_path / "counters.journal").write_bytes(journal)

    assert Life(tmp_path).packets() == {"a": 3}


def test_a_torn_line_is_passed_over_and_what_comes_after_it_is_not(tmp_path: Path):
    life = Life(tmp_path)
    life.ledger.keep(place("x", a=3))
    with (tmp_path / "counters.journal").open("r+b") as journal:
        journal.truncate(len(journal.read()) - 5)
    Life(tmp_path).ledger.keep(place("y", a=4))
    assert Life(tmp_path).packets() == {"a": 4}


def test_since_survives_a_restart_to_the_microsecond(tmp_path: Path):
    life = Life(tmp_path)
    life.ledger.count(["a"])
    assert life.ledger.save()
    later = Life(tmp_path, T0 + SECOND)
    later.ledger.count(["a"])
    assert later.ledger.totals()["a"].since == T0


def test_rules_that_are_gone_are_counted_no_more_and_begin_anew_when_they_come_back(tmp_path: Path):
    life = Life(tmp_path)
    life.ledger.add(place("x", a=3, b=1))
    life.ledger.count(["b"])
    assert life.packets() == {"b": 1}
    life.at += SECOND
    life.ledger.count(["a", "b"])
    assert life.ledger.totals()["a"] == Total(packets=0, bytes=0, since=T0 + SECOND, last=None)


def test_a_place_that_nobody_reads_for_a_day_is_forgotten_and_its_counts_are_not(tmp_path: Path):
    life = Life(tmp_path)
    life.ledger.add(place("x", a=3) + place("y", a=1))
    life.at += timedelta(hours=25)
    life.ledger.add(place("y", a=1))
    assert life.ledger.save()
    assert life.packets() == {"a": 4}
    assert b'"x"' not in (tmp_path / "counters.json").read_bytes()
    assert b'"y"' in (tmp_path / "counters.json").read_bytes()


def test_a_damaged_file_is_said_and_counting_begins_anew(tmp_path: Path):
    (tmp_path / "counters.json").write_bytes(b"{}")
    with capture_logs() as logs:
        life = Life(tmp_path)
    assert [line["event"] for line in logs] == ["counters_unusable"]
    life.ledger.keep(place("x", a=3))
    assert Life(tmp_path).packets() == {"a": 3}


def test_a_disk_that_fails_is_said_once_and_counting_goes_on(tmp_path: Path):
    directory = tmp_path / "state"
    directory.mkdir()
    life = Life(directory)
    directory.rename(tmp_path / "gone")
    with capture_logs() as logs:
        life.ledger.keep(place("x", a=3))
        assert not life.ledger.save()
        life.ledger.keep(place("y", a=3))
    assert [line["event"] for line in logs] == ["counters_not_kept"]
    assert life.packets() == {"a": 6}
    (tmp_path / "gone").rename(directory)
    assert life.ledger.save()
    assert Life(directory).packets() == {"a": 6}


def test_nobody_but_the_agent_may_read_it_and_cleaning_up_leaves_nothing(tmp_path: Path):
    life = Life(tmp_path)
    assert life.ledger.save()
    life.ledger.keep(place("x", a=3))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    life.ledger.remove()
    assert list(tmp_path.iterdir()) == []
