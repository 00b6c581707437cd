"""What a rule that the configuration gives may match: addresses and ports, written as in the API."""

import re
from ipaddress import ip_network

_PORTS = re.compile(r"[0-9]{1,5}(:[0-9]{1,5})?", re.ASCII)


def check_address(text: str, ip_version: int) -> None:
    """Refuse what is no address or prefix of this IP version.

    Raises:
        ValueError: it is none.
    """
    try:
        fits = ip_network(text, strict=False).version == ip_version and "%" not in text
    except ValueError:
        fits = False
    if not fits:
        example = "2001:db8::/32" if ip_version == 6 else "192.0.2.0/24"
        raise ValueError(f"give an IPv{ip_version} address or prefix, for example {example}")


def check_port_range(text: str) -> None:
    """Refuse what is no port, 1 to 65535, or range of ports ``A:B``, 0 to 65535, that a packet can match.

    Raises:
        ValueError: it is none.
    """
    first, _, last = text.partition(":")
    if not _PORTS.fullmatch(text) or not int(first) <= int(last or first) <= 65535 or int(last or first) == 0:
        raise ValueError("give a port, for example 443, or a range, for example 1024:65535")
