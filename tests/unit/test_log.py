"""What a process writes to its log."""

import json

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
