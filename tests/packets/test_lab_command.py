"""``portward lab`` as people and programs use it: what it prints, and its exit status."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from portward.cli import main

NAME = "command"


def portward(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a process."""
    command = [sys.executable, "-c", "from portward.cli import main; main()", "lab", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process, which spares the second that a new one takes to start."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["portward", "lab", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code or 0, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def up() -> Iterator[None]:
    assert portward("up", NAME, "--networks", "3").returncode == 0
    yield
    assert portward("down", "--all").stdout == f"lab {NAME} is down\n"


def test_up_says_how_to_use_the_lab() -> None:
    done = portward("up", "said")
    assert portward("down", "said").returncode == 0
    assert done.returncode == 0
    assert "portward lab exec said red -- " in done.stdout
    assert "portward port add said-blue --netns qrouter-" in done.stdout
    assert done.stderr == ""


@pytest.mark.usefixtures("up")
def test_show_gives_programs_every_id(run: Run) -> None:
    shown = json.loads(run("show", NAME, "--format", "json").stdout)
    assert [host["netns"] for host in shown["hosts"]] == [
        f"pw-{NAME}-{name}" for name in ("red", "blue", "green", "outside")
    ]
    assert [port["device"][3:] for port in shown["ports"]] == [port["id"][:11] for port in shown["ports"]]


@pytest.mark.usefixtures("up")
def test_show_without_a_name_lists_the_labs(run: Run) -> None:
    assert [lab["name"] for lab in json.loads(run("show", "--format", "json").stdout)] == [NAME]


@pytest.mark.usefixtures("up")
def test_exec_runs_in_the_host_and_ends_as_the_command_does() -> None:
    done = portward("exec", NAME, "blue", "--", "sh", "-c", "ip -brief address show dev eth0; exit 7")
    assert done.returncode == 7
    assert "10.2.0.10/24" in done.stdout
    assert "qr-" in portward("exec", NAME, "router", "--", "ip", "link").stdout


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("up", NAME), 1, f"portward lab down {NAME}"),
        (("up", "Not/A/Name"), 2, "no lab name"),
        (("up", "other", "--networks", "4"), 2, "--networks"),
        (("show", "other"), 1, NAME),
        (("exec", "other", "red", "--", "true"), 1, NAME),
        (("exec", NAME, "purple", "--", "true"), 2, "red, blue, green, outside"),
        (("down",), 2, "--all"),
        (("down", "other"), 1, NAME),
    ],
)
def test_what_cannot_be_done_ends_with_1_and_what_makes_no_sense_with_2(
    run: Run, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = run(*arguments)
    assert done.returncode == status
    assert said in done.stderr
