"""Which of the capabilities that enforcing needs this process lacks (capabilities(7))."""

from pathlib import Path

from portward.dataplane.protocol import DataplaneError

#: To change nftables and connection tracking, and to enter other network namespaces.
NEEDED = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}  # linux/capability.h


class NotPrivileged(DataplaneError):
    """The process may not do what enforcing needs."""


def lacking() -> tuple[str, ...]:
    """The names of the capabilities that this process lacks."""
    status = Path("/proc/self/status").read_text()
    held = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    return tuple(name for name, bit in NEEDED.items() if not held >> bit & 1)


def require() -> None:
    """Make sure that nothing is lacking.

    Raises:
        NotPrivileged: something is.
    """
    missing = lacking()
    if missing:
        raise NotPrivileged(f"enforcing needs {' and '.join(missing)}: run it as root (sudo), or give it these")
