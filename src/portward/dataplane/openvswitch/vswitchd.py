"""When the switch obeys: rounds of its revalidators, which bring what it cached of flows up to date with the flows.

A packet that matches a cached flow is not judged anew, so a change of flows holds once the cache was gone through
after it. Told over the control socket of ovs-vswitchd (``ovs-appctl revalidator/wait``), with which nothing else is
done here. ``revalidator/pause`` would be quicker and is refused: whoever dies between it and ``resume`` leaves a
switch that never again notices a change.

A datapath in userspace is another matter: that of Open vSwitch 3.1.0 was seen to keep cached flows for ever as they
were before a change, where two of them overlap. There the cache is emptied instead (``revalidator/purge``).
"""

import itertools
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

from portward.dataplane.protocol import DataplaneError

_DAEMON = "ovs-vswitchd"
_PATIENCE = 5.0  # seconds for all rounds that are waited for
_NUDGE = 0.02  # seconds after which a round that does not end is nudged again; then twice that, and so on


class VswitchdError(DataplaneError):
    """ovs-vswitchd does not say that its cache is up to date: what was changed may not hold yet."""


class Vswitchd:
    """The ovs-vswitchd whose control socket is in ``run_dir``; connected when first used."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._connection: socket.socket | None = None
        self._ids = itertools.count(1)

    def wait_for_revalidators(self, rounds: int, nudge: Callable[[], None]) -> None:
        """Return once so many rounds have ended that began after the call.

        Args:
            rounds: one for what was cached before the change; a second for what a thread of the switch was just then
                about to cache, judged by the flows before it.
            nudge: has the switch change any flow, in vain; a round then begins at once, else within 500 ms
                (``other_config:max-revalidator``). It need not wait for the switch.

        Raises:
            VswitchdError: the switch did not say so within 5 s, or it ended.
        """
        self._ask_often(1 + rounds, "revalidator/wait", nudge)  # the first that ends may have begun before

    def purge(self, times: int) -> None:
        """Have the switch forget all that it cached, so many times: whatever was just then about to be cached as well.

        Raises:
            VswitchdError: the switch did not say within 5 s that it has, or it ended.
        """
        self._ask_often(times, "revalidator/purge", lambda: None)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _ask_often(self, times: int, method: str, nudge: Callable[[], None]) -> None:
        deadline = time.monotonic() + _PATIENCE
        try:
            for _ in range(times):
                self._await_answer(method, nudge, deadline)
        except OSError as error:
            self.close()
            raise VswitchdError(f"ovs-vswitchd ended while its flows were changed: {error.strerror}") from error
        except BaseException:
            self.close()  # an answer may come later, and would be taken for another's
            raise

    def _await_answer(self, method: str, nudge: Callable[[], None], deadline: float) -> None:
        """Return when the switch did ``method``: when a round ends that had not ended at the call, say."""
        connection, number = self._ask(method, deadline)
        # The switch takes the request in the same turn as a change of flows that comes later, at the latest, and
        # begins the round for that change one turn later: the answer cannot be missed.
        nudge()
        answer, pause = b"", _NUDGE
        while True:
            now = time.monotonic()
            if now >= deadline:
                raise VswitchdError(f"ovs-vswitchd did not go through its cache of flows in {_PATIENCE:.0f} s")
            connection.settimeout(min(pause, deadline - now))
            try:
                received = connection.recv(1 << 16)
            except TimeoutError:
                nudge()
                pause *= 2
                continue
            if not received:
                raise ConnectionResetError(0, "it closed its control socket")
            answer += received
            reply = _parsed(answer)
            if reply is not None:
                break
        if reply.get("error") is not None or reply.get("id") != number:
            raise VswitchdError(f"ovs-vswitchd refused {method}: {str(reply.get('error')).strip()}")

    def _ask(self, method: str, deadline: float) -> tuple[socket.socket, int]:
        """Send the request, over a new connection if the old one, or the switch at its other end, is gone."""
        number = next(self._ids)
        request = json.dumps({"id": number, "method": method, "params": []}).encode()
        if self._connection is not None:
            try:
                self._connection.settimeout(max(deadline - time.monotonic(), _NUDGE))
                self._connection.sendall(request)
            except OSError:
                self.close()
            else:
                return self._connection, number
        self._connection = self._connect()
        self._connection.sendall(request)
        return self._connection, number

    def _connect(self) -> socket.socket:
        pidfile = self._run_dir / f"{_DAEMON}.pid"
        try:
            # Not by number alone: what is in the file becomes part of a path.
            pid = int(pidfile.read_text("ascii"))
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                connection.settimeout(_PATIENCE)
                connection.connect(str(self._run_dir / f"{_DAEMON}.{pid}.ctl"))
            except BaseException:
                connection.close()
                raise
        except (OSError, ValueError) as error:
            raise VswitchdError(
                f"ovs-vswitchd cannot be asked when its flows hold: is it up, started with --pidfile, and is its "
                f"control socket in {self._run_dir}? ({error})"
            ) from error
        return connection


def _parsed(text: bytes) -> dict[str, object] | None:
    try:
        reply = json.loads(text)
    except ValueError:
        return None  # the rest is yet to come
    return reply if isinstance(reply, dict) else {"error": "no answer that could be read"}
