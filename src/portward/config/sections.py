"""The sections of the configuration: their keys, what each takes, and a default that works on one machine."""

import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from portward.config.matches import check_address, check_port_range

_UNIX = "unix:"
_LONGEST_SOCKET_PATH = 107  # bytes; the kernel's


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def is_loopback(host: str) -> bool:
    """Whether ``host`` leads to this machine alone: ``localhost`` or a loopback address, without brackets."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def host_port(host: str, port: int) -> str:
    """``HOST:PORT``, an IPv6 address in brackets, as URLs and ``listen`` have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError("give HOST:PORT, for example 127.0.0.1:9696 or [::1]:9696")
    return value


class Listener(_Section):
    """Where a server listens, as ``HOST:PORT``; IPv6 in brackets."""

    listen: str  # HOST:PORT; IPv6 in brackets
    tls_cert: Path | None = None  # PEM: the certificate, then those between it and the CA's; both or none
    tls_key: Path | None = None  # PEM, without a passphrase

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("give tls_cert and tls_key, or neither")
        return self

    @field_validator("listen")
    @classmethod
    def _valid(cls, value: str) -> str:
        return _check_listen(value)

    @property
    def socket_path(self) -> Path | None:
        """The Unix socket, if it is one."""
        return Path(self.listen.removeprefix(_UNIX)) if self.listen.startswith(_UNIX) else None

    @property
    def address(self) -> tuple[str, int]:
        """Host (without brackets) and port to bind; ``localhost`` and 0 of a Unix socket, which has none."""
        if self.socket_path is not None:
            return "localhost", 0
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class API(Listener):
    """``[api]``: what users and OpenStack clients talk to."""

    listen: str = "127.0.0.1:9696"  # HOST:PORT, IPv6 in brackets; or unix:/run/portward/api.sock
    max_body: Annotated[int, Field(ge=1024, le=2**30)] = 1024 * 1024  # bytes of a request
    trust_forwarded: bool = False  # true behind a proxy that sets X-Forwarded-Proto, -Host and -Prefix
    metrics: bool = True  # false: /metrics is on the agents' listener alone

    @field_validator("listen")
    @classmethod
    def _valid(cls, value: str) -> str:
        if not value.startswith(_UNIX):
            return _check_listen(value)
        if not value.startswith(f"{_UNIX}/") or len(value.removeprefix(_UNIX).encode()) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"give unix: and an absolute path of at most {_LONGEST_SOCKET_PATH} bytes")
        return value


class AgentAPI(Listener):
    """``[agent_api]``: what the agents of the hosts talk to."""

    listen: str = "127.0.0.1:9697"  # HOST:PORT, IPv6 in brackets


class Database(_Section):
    """``[database]``: where all state is. Several replicas of the API need PostgreSQL or MariaDB.

    SQLite: ``sqlite:////PATH/portward.db``. PostgreSQL: ``postgresql://USER:PASSWORD@HOST/DATABASE``. MariaDB, MySQL:
    ``mariadb://USER:PASSWORD@HOST/DATABASE``. The database itself must be there; Portward makes its tables.
    """

    url: str = "sqlite:////var/lib/portward/portward.db"  # a URL of SQLAlchemy


class Auth(_Section):
    """``[auth]``: who the caller is, and what callers may. ``none`` makes every caller an admin."""

    mode: Literal["none", "http_basic", "keystone"] = "none"  # how callers show who they are
    project: str = "portward"  # the project of callers in mode none
    users_file: Path = Path("/etc/portward/users")  # of mode http_basic; `portward user add` writes it
    policy_file: Path = Path("/etc/portward/policy.yaml")  # overrides of policy rules; one that is named must be there


class Keystone(BaseModel):
    """``[keystone]``: of auth mode ``keystone``; takes keystonemiddleware's own option names.

    What its documentation has in ``[keystone_authtoken]``: ``auth_url``, ``username``, ``password``, ``project_name``,
    ``user_domain_name``, ``project_domain_name``, ``www_authenticate_uri``, ``cafile``, ``token_cache_time`` (seconds),
    ``memcached_servers``, ... A name that it does not know is refused when the API starts.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, str | int | bool | list[str]] = Field(init=False)

    @property
    def options(self) -> dict[str, str | int | bool | list[str]]:
        """The options that are given."""
        return dict(self.__pydantic_extra__)


class Client(_Section):
    """``[client]``: how the ``portward`` command itself reaches the API, as which user."""

    url: str = ""  # http://, https:// or unix:/path; "": where [api] listen is
    username: str = ""  # of auth mode http_basic
    password: str = ""  # better in PORTWARD_CLIENT__PASSWORD
    token: str = ""  # of auth mode keystone, as `openstack token issue` prints it; better in PORTWARD_CLIENT__TOKEN
    ca_file: Path | None = None  # PEM: whom to trust when the URL is https; none: the system's CAs

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.token and (self.username or self.password):
            raise ValueError("give username and password, or token")
        return self


_Protocol = Annotated[Literal["tcp", "udp", "icmp", "sctp", "dccp"] | None, Field(validate_default=True)]


class DefaultFirewallGroup(_Section):
    """``[default_firewall_group]``: the group that each project has, and its four rules.

    Keys as in Neutron's ``[default_fwg_rules]``.
    """

    enabled: bool = True  # false: no project has one, and VM ports belong to no group until put into one
    ingress_enabled: bool = True  # false: the ingress rules exist and take no part
    ingress_action: Literal["allow", "deny", "reject"] = "deny"  # of the two ingress rules
    ingress_source_ipv4_address: str | None = None  # address or prefix of the IPv4 ingress rule; none: any
    ingress_source_ipv6_address: str | None = None  # address or prefix of the IPv6 ingress rule; none: any
    ingress_source_port: str | None = None  # port or range A:B of the ingress rules; none: any
    ingress_destination_ipv4_address: str | None = None  # address or prefix of the IPv4 ingress rule; none: any
    ingress_destination_ipv6_address: str | None = None  # address or prefix of the IPv6 ingress rule; none: any
    ingress_destination_port: str | None = None  # port or range A:B of the ingress rules; none: any
    egress_action: Literal["allow", "deny", "reject"] = "allow"  # of the two egress rules
    egress_source_ipv4_address: str | None = None  # address or prefix of the IPv4 egress rule; none: any
    egress_source_ipv6_address: str | None = None  # address or prefix of the IPv6 egress rule; none: any
    egress_source_port: str | None = None  # port or range A:B of the egress rules; none: any
    egress_destination_ipv4_address: str | None = None  # address or prefix of the IPv4 egress rule; none: any
    egress_destination_ipv6_address: str | None = None  # address or prefix of the IPv6 egress rule; none: any
    egress_destination_port: str | None = None  # port or range A:B of the egress rules; none: any
    protocol: _Protocol = None  # of all four rules; none: any

    @field_validator("*")
    @classmethod
    def _matchable(cls, value: Any, info: ValidationInfo) -> Any:
        """What would make each project's first request fail is refused at the start."""
        name = info.field_name or ""
        if value is not None and name.endswith("_address"):
            check_address(value, 6 if "ipv6" in name else 4)
        if value is not None and name.endswith("_port"):
            check_port_range(value)
        if name == "protocol" and value in (None, "icmp"):
            ports = [key for key, other in info.data.items() if key.endswith("_port") and other is not None]
            if ports:
                raise ValueError(f"{ports[0]} needs tcp, udp, sctp or dccp")
        return value


_Quota = Annotated[int, Field(ge=-1)]


class ProjectQuotas(_Section):
    """``[quotas.projects.ID]``: quotas of one project that differ from those of all."""

    firewall_group: _Quota | None = None
    firewall_policy: _Quota | None = None
    firewall_rule: _Quota | None = None
    address_group: _Quota | None = None


class Quotas(_Section):
    """``[quotas]``: how many a project may have, its default ones counted; -1: any number."""

    firewall_group: _Quota = 10  # groups
    firewall_policy: _Quota = 10  # policies
    firewall_rule: _Quota = 100  # rules
    address_group: _Quota = 10  # address groups
    projects: dict[str, ProjectQuotas] = {}  # a section a project, [quotas.projects.ID]; what it leaves out is as above


class Agent(_Section):
    """``[agent]``: the agent of this host."""

    host: str = Field(default_factory=socket.gethostname)  # as in binding:host_id of its ports
    api: str = "http://127.0.0.1:9697"  # where [agent_api] listens
    token: str = ""  # printed once by `portward host add`
    ca_file: Path | None = None  # PEM: the CAs that the API's certificate may be from; none: those of the system
    state_dir: Path = Path("/var/lib/portward-agent")  # what it enforces, kept for its next start
    allow_root_namespace: bool = False  # ports in the namespace that the agent itself runs in


class Log(_Section):
    """``[log]``: what the processes write to standard error, one JSON object a line."""

    level: Literal["debug", "info", "warning", "error"] = "info"  # the least that is written


class Nftables(_Section):
    """``[nftables]``: the dataplane of router ports."""

    ct_mark_mask: Annotated[int, Field(gt=0, le=0xFFFFFFFF)] = 0xFFFF  # bits of the connection mark that are ours
    reverse_path: Literal["strict", "loose", "off"] = "strict"  # others: a host may forge its way into connections

    @field_validator("ct_mark_mask", mode="before")
    @classmethod
    def _hexadecimal(cls, value: Any) -> Any:
        """The environment has strings only; 0xffff means there what it means in TOML."""
        return int(value, 0) if isinstance(value, str) else value

    @field_validator("ct_mark_mask")
    @classmethod
    def _contiguous(cls, value: int) -> int:
        bits = value // (value & -value)
        if bits & (bits + 1) or bits < 0xF:
            raise ValueError("give at least 4 adjacent bits, for example 0x0000ffff")
        return value


_Zone = Annotated[int, Field(ge=1, le=65535)]
_Device = Annotated[str, Field(pattern=r"^[A-Za-z0-9_@-][A-Za-z0-9_.@-]{0,14}$")]
_Namespace = Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9_@-][A-Za-z0-9_.@-]{0,63}$")]


class Openvswitch(_Section):
    """``[openvswitch]``: the dataplane of VM ports."""

    bridge: _Device = "br-int"  # that the VMs are plugged into
    run_dir: Path = Path("/var/run/openvswitch")  # where the switch has its sockets
    netns: _Namespace = ""  # the network namespace that the switch runs in; empty: the agent's own
    zones: tuple[_Zone, _Zone] = (4096, 65535)  # first and last connection-tracking zone that are ours: one a VM port
    uplinks: list[str] = []  # interfaces of the bridge that lead to the network, and are not filtered
    beside_security_groups: bool = False  # Neutron's firewall driver has its flows on the bridge

    @field_validator("zones")
    @classmethod
    def _in_order(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("give the first zone, then the last, for example [4096, 65535]")
        return value
