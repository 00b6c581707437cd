"""The agent's commands: its parts made from the settings, and run, or cleaned up after."""

import signal
from functools import partial
from urllib.parse import urlsplit

import structlog

from portward.agent.counting import Counting
from portward.agent.drivers import Drivers
from portward.agent.enforcer import Enforcer
from portward.agent.ledger import Ledger
from portward.agent.loop import Agent
from portward.agent.state_file import StateFile
from portward.channel.client import Client
from portward.config import Settings, is_loopback
from portward.dataplane.nftables import support
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane
from portward.dataplane.privileges import require
from portward.log import log_to_stderr
from portward.model import PortKind
from portward.systemd import notify

_log = structlog.get_logger(__name__)


def run(settings: Settings) -> None:
    """Run the agent of this host until SIGTERM or SIGINT; neither removes anything. Call it in the main thread.

    Raises:
        NotPrivileged: the process may not enforce.
        AgentRunning: one with the same ``state_dir`` runs already.
        StateFileError: ``state_dir`` cannot be used.
        ConfigurationError: ``ca_file`` cannot be used.
    """
    log_to_stderr(settings.log.level)
    require()
    _warn_of_plain_text(settings.agent.api)
    state_file = StateFile(settings.agent.state_dir)
    with state_file.held():
        _warn_of_old_nftables()
        client = Client(settings.agent.api, settings.agent.token, ca_file=settings.agent.ca_file)
        ledger = Ledger(settings.agent.state_dir)
        ledger.load()
        drivers = _drivers(settings, ledger)
        counting = Counting(drivers, ledger)
        agent = Agent(Enforcer(drivers, state_file), client, counting, ready=partial(notify, "READY=1"))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        _log.info("agent_started", host=settings.agent.host, api=settings.agent.api)
        try:
            agent.run()
        finally:
            drivers.close()
            client.close()
        _log.info("agent_stopped", consequence="what is enforced stays enforced")


def cleanup(settings: Settings) -> tuple[str, ...]:
    """Remove all that an agent put on this host, and the state on disk; says what is unfiltered from now on.

    Raises:
        NotPrivileged: the process may not enforce.
        AgentRunning: an agent runs; it would enforce all of it again.
        CleanupFailed: something could not be removed; the state on disk stays too.
        StateFileError: ``state_dir`` cannot be used.
    """
    require()
    state_file = StateFile(settings.agent.state_dir)
    with state_file.held():
        drivers = _drivers(settings, None)
        try:
            opened = drivers.cleanup()
            state_file.remove()
            Ledger(settings.agent.state_dir).remove()
        finally:
            drivers.close()
    return opened


def _warn_of_old_nftables() -> None:
    try:
        support.require()
    except support.Unsupported as error:
        _log.error("nftables_unsuitable", reason=str(error), consequence="no router port is enforced anew")


def _warn_of_plain_text(api: str) -> None:
    try:
        url = urlsplit(api)
    except ValueError:
        return  # the client says what is wrong with it
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        _log.warning(
            "no_tls",
            api=api,
            consequence="whoever is between reads the token",
            remedy="give an https URL in [agent] api",
        )


def _drivers(settings: Settings, ledger: Ledger | None) -> Drivers:
    return Drivers(
        {
            PortKind.ROUTER: NftablesDataplane(
                ct_mark_mask=settings.nftables.ct_mark_mask,
                reverse_path=settings.nftables.reverse_path,
                allow_root_namespace=settings.agent.allow_root_namespace,
                owner=settings.agent.host,
                ledger=ledger,
            ),
            PortKind.VM: OpenvswitchDataplane(
                bridge=settings.openvswitch.bridge,
                run_dir=settings.openvswitch.run_dir,
                netns=settings.openvswitch.netns or None,
                zones=settings.openvswitch.zones,
                uplinks=settings.openvswitch.uplinks,
                beside_security_groups=settings.openvswitch.beside_security_groups,
                ledger=ledger,
            ),
        }
    )
