"""Portward: Firewall-as-a-Service V2 for router ports and VM ports."""

__version__ = "0.1.0"
