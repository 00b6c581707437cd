"""The switch of a lab: Open vSwitch in userspace, with a database and sockets of its own, in a namespace of its own.

Nothing of the machine's own switch is used. The bridge passes nothing until somebody gives it flows. Refuses to say
what these are: ``open`` is for tests of the lab itself.
"""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import time
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from portward.dataplane.netns import in_namespace
from portward.lab.errors import LabError
from portward.lab.processes import identify
from portward.lab.state import LabPort, LabSwitch, Process

BRIDGE = "br-int"
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_DIRECTORIES = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
_PATIENCE = 10.0
_SIOCETHTOOL, _SET_TX_CHECKSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h


class Switch:
    """The running switch that ``plan`` describes."""

    def __init__(self, plan: LabSwitch) -> None:
        self.netns = plan.netns
        self.run_dir = Path(plan.run_dir)
        self.bridge = BRIDGE
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = os.environ | dict.fromkeys(_DIRECTORIES, plan.run_dir)

    def start(self) -> tuple[Process, ...]:
        """Make its database, start it, and make the bridge.

        Raises:
            LabError: it does not run.
        """
        self.run_dir.mkdir(mode=0o700)
        self._run("ovsdb-tool", "create", str(self.run_dir / "conf.db"), _SCHEMA)
        database = self.start_database()
        self.vsctl("--no-wait", "init")
        vswitchd = self.start_vswitchd()
        self.vsctl("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev", "fail_mode=secure")
        return database, vswitchd

    def start_database(self) -> Process:
        """Start ovsdb-server, and wait until it answers."""
        started = self._start("ovsdb-server", str(self.run_dir / "conf.db"), f"--remote=punix:{self.run_dir}/db.sock")
        self._until_answers("ovs-vsctl", "--no-wait", "show")
        return started

    def start_vswitchd(self) -> Process:
        """Start ovs-vswitchd, and wait until it answers."""
        started = self._start("ovs-vswitchd", f"unix:{self.run_dir}/db.sock")
        self._until_answers("ovs-appctl", "version")
        return started

    def kill(self, daemon: str) -> None:
        """SIGKILL ``ovsdb-server`` or ``ovs-vswitchd``, of a switch that this process started."""
        child = self.children.pop(daemon)
        child.kill()
        child.wait()

    def plug(self, ports: Iterable[LabPort]) -> None:
        """Plug the devices of ``ports`` into the bridge, all at once."""
        arguments: list[str] = []
        for port in ports:
            arguments += ["--", "add-port", BRIDGE, port.device, f"tag={port.vlan}"]
            arguments += ["--", "set", "interface", port.device, f"external_ids:iface-id={port.port_id}"]
            arguments += [f'external_ids:attached-mac="{port.mac}"', "external_ids:iface-status=active"]
        if arguments:
            self.vsctl(*arguments[1:])

    def unplug(self, port: LabPort) -> None:
        """Take a port out of the bridge."""
        self.vsctl("del-port", BRIDGE, port.device)

    def open(self) -> None:
        """Let everything pass, as a switch without a firewall does."""
        self.ofctl("add-flow", BRIDGE, "priority=0,actions=NORMAL")

    def vsctl(self, *arguments: str) -> str:
        """What ovs-vsctl says.

        Raises:
            LabError: it failed.
        """
        return self._run("ovs-vsctl", "--timeout=10", *arguments)

    def ofctl(self, *arguments: str) -> str:
        """What ovs-ofctl says, over OpenFlow 1.4.

        Raises:
            LabError: it failed.
        """
        return self._run("ovs-ofctl", "-O", "OpenFlow14", *arguments)

    def appctl(self, *arguments: str) -> str:
        """What ovs-appctl says.

        Raises:
            LabError: it failed.
        """
        return self._run("ovs-appctl", *arguments)

    def destroy(self) -> None:
        """Remove what the switch has on disk, once its processes are ended."""
        for child in self.children.values():
            child.kill()
            child.wait()
        self.children.clear()
        with suppress(FileNotFoundError):
            shutil.rmtree(self.run_dir)

    def _start(self, daemon: str, *arguments: str) -> Process:
        command = [
            daemon,
            *arguments,
            "--pidfile",
            "-vconsole:off",
            "-vsyslog:off",
            f"--log-file={self.run_dir}/{daemon}.log",
        ]

        def start() -> "subprocess.Popen[bytes]":
            return subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )

        try:
            self.children[daemon] = in_namespace(self.netns, start)
        except FileNotFoundError as error:
            raise _missing(daemon) from error
        return identify(self.children[daemon].pid)

    def _until_answers(self, *command: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._run(*command)
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                return

    def _run(self, *command: str) -> str:
        try:
            done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise _missing(command[0]) from error
        if done.returncode:
            raise LabError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
        return done.stdout


def without_offload(netns: str, device: str) -> None:
    """Have the device send whole checksums: a switch in userspace passes on what it reads.

    Raises:
        LabError: the device does not take it.
    """

    def turn_off() -> None:
        value = array("B", struct.pack("=II", _SET_TX_CHECKSUM, 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = struct.pack("16sP", device.encode(), value.buffer_info()[0])
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request.ljust(40, b"\0"))

    try:
        in_namespace(netns, turn_off)
    except OSError as error:
        raise LabError(f"{device} in {netns}: checksums cannot be made by software: {error.strerror}") from error


def _missing(command: str) -> LabError:
    return LabError(f"{command} is not installed; on Debian: apt install openvswitch-switch")
