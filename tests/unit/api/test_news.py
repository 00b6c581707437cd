"""Waiting for a generation."""

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from structlog.testing import capture_logs

from portward.api import news as news_module
from portward.api.news import News

DEADLINE = 5.0


class Database:
    """A generation, and how often it was read."""

    def __init__(self) -> None:
        self.generation = 3
        self.reads = 0
        self.fails = 0

    def read(self) -> int:
        self.reads += 1
        if self.fails:
            self.fails -= 1
            raise OSError("disk full")
        return self.generation


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


async def test_who_is_behind_is_told_at_once() -> None:
    database = Database()
    news = News(database.read)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.run)
        assert await news.wait_after(2, DEADLINE)
        news.close()


async def test_a_generation_raised_by_another_process_wakes_those_who_wait() -> None:
    database = Database()
    news = News(database.read, interval=0.001)
    woken = []

    async def wait() -> None:
        woken.append(await news.wait_after(3, DEADLINE))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.run)
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait)
            waiting.start_soon(wait)
            while database.reads < 2:
                await anyio.sleep(0.001)
            assert woken == []
            database.generation = 4
        news.close()
    assert woken == [True, True]


async def test_an_own_commit_does_not_wait_for_the_next_look() -> None:
    database = Database()
    news = News(database.read, interval=3600)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.run)

        async def commit() -> None:
            while not database.reads:
                await anyio.sleep(0.001)
            database.generation = 4
            news.announce()

        tasks.start_soon(commit)
        assert await news.wait_after(3, DEADLINE)
        news.close()


async def test_no_news_ends_the_wait_after_its_time() -> None:
    database = Database()
    news = News(database.read)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.run)
        assert not await news.wait_after(3, 0.02)
        news.close()


async def test_nobody_waiting_means_nobody_reads() -> None:
    database = Database()
    news = News(database.read, interval=0.001)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.run)
        assert not await news.wait_after(3, 0.02)
        await wait_all_tasks_blocked()
        before = database.reads
        news.announce()
        await wait_all_tasks_blocked()
        assert database.reads == before
        news.close()


async def test_a_generation_that_fell_while_nobody_waited_is_no_news() -> None:
    database = Database()
    news = News(database.read)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.run)
        assert await news.wait_after(2, DEADLINE)
        database.generation = 1
        assert not await news.wait_after(1, 0.02)
        news.close()


async def test_a_generation_that_fell_while_others_waited_is_no_news() -> None:
    database = Database()
    news = News(database.read, interval=0.001)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.run)
        tasks.start_soon(news.wait_after, 3, 0.2)
        while not database.reads:
            await anyio.sleep(0.001)
        database.generation = 1
        seen = database.reads
        while database.reads < seen + 3:
            await anyio.sleep(0.001)
        assert not await news.wait_after(1, 0.02)
        news.close()


async def test_a_stop_lets_waiting_polls_go_at_once() -> None:
    database = Database()
    news = News(database.read)
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(news.run)

            async def stop() -> None:
                while not database.reads:
                    await anyio.sleep(0.001)
                news.close()

            tasks.start_soon(stop)
            assert not await news.wait_after(3, 3600)


async def test_a_database_that_fails_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portward.api.news._PAUSE_AFTER_ERROR", 0.001)
    database = Database()
    database.fails = 1
    news = News(database.read)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.run)
        assert await news.wait_after(2, DEADLINE)
        news.close()


async def test_a_database_that_is_broken_for_long_is_said_once_and_so_is_its_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(news_module, "_PAUSE_AFTER_ERROR", 0.001)
    database = Database()
    database.fails, database.generation = 20, 4
    news = News(database.read, interval=0.001)
    with capture_logs() as logs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(news.run)
            assert await news.wait_after(3, DEADLINE)
            news.close()
    assert [line["event"] for line in logs] == ["generation_unreadable", "generation_readable"]
    assert logs[0]["reason"] == "OSError: disk full"
