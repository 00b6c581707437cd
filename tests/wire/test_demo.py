"""The demo's story where there is no root: the API and the client are real, the packets are the model's."""

import subprocess
import sys


def test_the_story_agrees_on_every_line_in_the_golden_model() -> None:
    told = subprocess.run([sys.executable, "-m", "demo", "--model"], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "lines agree" in told.stdout
    assert "the packets are not" in told.stdout  # real: the reader is told so
