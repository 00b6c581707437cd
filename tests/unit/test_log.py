"""What a process writes to its log."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from portward.log import log_to_stderr


def test_a_traceback_shows_where_and_not_the_values_of_variables(capsys: pytest.CaptureFixture[str]):
    before = structlog.get_config()
    try:
        log_to_stderr()
        token = "secret" + "-value"
        try:
            raise RuntimeError(f"length {len(token)}")
        except RuntimeError:
            structlog.get_logger().exception("it_failed")
    finally:
        structlog.configure(**before)

    line = capsys.readouterr().err
    assert json.loads(line)["event"] == "it_failed"
    assert "length 12" in line
    assert "secret-value" not in line


@pytest.fixture
def lines(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged, since the process logs as it does in real life."""
    monkeypatch.setattr("sys.stderr", written := io.StringIO())
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    log_to_stderr(getattr(request, "param", "debug"))
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    structlog.configure(**before)
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_what_libraries_log_is_a_json_object_a_line_too(lines: Callable[[], list[dict[str, Any]]]):
    logging.getLogger("sqlalchemy.pool").warning("it is %s", "full")
    logging.getLogger("sqlalchemy.engine").info("SELECT with the values in it")
    try:
        raise RuntimeError("why")
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("it failed")

    first, second = lines()

    assert (first["event"], first["logger"], first["level"]) == ("it is full", "sqlalchemy.pool", "warning")
    assert second["exception"][0]["exc_value"] == "why"


@pytest.mark.parametrize(
    "said",
    ["Authorization: Bearer {}", "{{'X-Auth-Token': '{}', 'a': 1}}", "X-Subject-Token: {}", "Basic {}",
     "postgresql://portward:{}@db.example:5432/portward", "mysql+pymysql://u:{}@[::1]/x", "password={}",
     '{{"auth": {{"password": "{}"}}}}', "https://x/?token={}&a=1"],
)  # fmt: skip
def test_no_secret_leaves_whoever_logs_it(lines: Callable[[], list[dict[str, Any]]], said: str):
    secret = "s3cr3t-value-0123456789abcdef"
    logging.getLogger("keystonemiddleware").warning(said.format(secret))
    structlog.get_logger().info(said.format(secret), nested={"deep": [said.format(secret)]})
    try:
        raise RuntimeError(said.format(secret))
    except RuntimeError:
        structlog.get_logger().exception("failed")

    told = lines()

    assert len(told) == 3
    assert secret not in repr(told)
    assert "***" in repr(told)


def test_tokens_of_keystone_and_hashes_of_passwords_are_known_by_their_shape(
    lines: Callable[[], list[dict[str, Any]]],
):
    token, hashed = "gAAAAAB" + "x" * 100, "$2b$12$" + "a" * 53
    structlog.get_logger().info(f"{token} {hashed}", token="short", project="kept", generation=7)

    (line,) = lines()

    assert line["event"] == "*** ***"
    assert (line["token"], line["project"], line["generation"]) == ("***", "kept", 7)


@pytest.mark.parametrize("lines", ["error"], indirect=True)
def test_lines_below_the_level_are_not_written(lines: Callable[[], list[dict[str, Any]]]):
    structlog.get_logger().warning("not this")
    logging.getLogger("x").warning("nor this")
    structlog.get_logger().error("this")

    assert [line["event"] for line in lines()] == ["this"]
