"""The configuration of all processes: its sections, and how it is read."""

from portward.config.errors import ConfigurationError
from portward.config.load import DEFAULT_FILE, FILE_VARIABLE, Settings, load
from portward.config.sections import (
    API,
    Agent,
    AgentAPI,
    Auth,
    Client,
    Database,
    DefaultFirewallGroup,
    Keystone,
    Listener,
    Log,
    Nftables,
    Openvswitch,
    ProjectQuotas,
    Quotas,
    host_port,
    is_loopback,
)

__all__ = [
    "API",
    "DEFAULT_FILE",
    "FILE_VARIABLE",
    "Agent",
    "AgentAPI",
    "Auth",
    "Client",
    "ConfigurationError",
    "Database",
    "DefaultFirewallGroup",
    "Keystone",
    "Listener",
    "Log",
    "Nftables",
    "Openvswitch",
    "ProjectQuotas",
    "Quotas",
    "Settings",
    "host_port",
    "is_loopback",
    "load",
]
