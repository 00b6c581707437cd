"""The tables. The database is the only state of the service; replicas of the API are equal.

What a user wrote is kept as written; ``service.hosts`` and ``service.policy_values`` make of it what hosts enforce.
Ids are lower-case UUIDs with dashes, times are UTC. ``Alembic`` migrations in ``store/migrations`` build the
same tables; a test compares the two.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, DateTime, ForeignKey, Integer, MetaData, String, Text
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: To the microsecond on all databases; MariaDB would round to the second.
Time = DateTime().with_variant(DATETIME(fsp=6), "mysql")


class Base(DeclarativeBase):
    """What all tables share: constraint names that migrations can rely on."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class State(Base):
    """One row: every writing transaction locks it first, and raises ``generation`` if a host is concerned."""

    __tablename__ = "state"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)  # always 1
    generation: Mapped[int] = mapped_column(BigInteger, default=0)


class StandardAttributes:
    """The attributes that every resource has, in Neutron's words."""

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(36), index=True)
    name: Mapped[str] = mapped_column(String(255), default="")
    description: Mapped[str] = mapped_column(String(255), default="")
    revision_number: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(Time)
    updated_at: Mapped[datetime] = mapped_column(Time)


class ResourceTag(Base):
    """The resource with id ``resource_id``, of whatever kind, bears ``tag``."""

    __tablename__ = "resource_tags"

    resource_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tag: Mapped[str] = mapped_column(String(255), primary_key=True)


class FirewallRule(StandardAttributes, Base):
    """A rule as the user wrote it; ``protocol`` is a name of the API or a string of digits.

    ``default_of``, here and in policies and groups: the project whose default this is.
    """

    __tablename__ = "firewall_rules"

    default_of: Mapped[str | None] = mapped_column(String(36), index=True)

    shared: Mapped[bool] = mapped_column(Boolean, default=False)
    protocol: Mapped[str | None] = mapped_column(String(16))
    ip_version: Mapped[int] = mapped_column(Integer, default=4)
    source_ip_address: Mapped[str | None] = mapped_column(String(64))
    destination_ip_address: Mapped[str | None] = mapped_column(String(64))
    source_address_group_id: Mapped[str | None] = mapped_column(ForeignKey("address_groups.id"), index=True)
    destination_address_group_id: Mapped[str | None] = mapped_column(ForeignKey("address_groups.id"), index=True)
    source_firewall_group_id: Mapped[str | None] = mapped_column(ForeignKey("firewall_groups.id"), index=True)
    destination_firewall_group_id: Mapped[str | None] = mapped_column(ForeignKey("firewall_groups.id"), index=True)
    source_port: Mapped[str | None] = mapped_column(String(11))  # "N" or "A:B"
    destination_port: Mapped[str | None] = mapped_column(String(11))
    icmp_type: Mapped[int | None] = mapped_column(Integer)
    icmp_code: Mapped[int | None] = mapped_column(Integer)
    action: Mapped[str] = mapped_column(String(16), default="deny")
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)


class FirewallPolicy(StandardAttributes, Base):
    """A policy; ``version`` is the generation of the last change to what it decides."""

    __tablename__ = "firewall_policies"

    default_of: Mapped[str | None] = mapped_column(String(36), index=True)
    shared: Mapped[bool] = mapped_column(Boolean, default=False)
    audited: Mapped[bool] = mapped_column(Boolean, default=False)
    version: Mapped[int] = mapped_column(BigInteger, default=0)


class PolicyRule(Base):
    """Rule ``rule_id`` stands in policy ``policy_id``; lower positions decide first. Gaps are allowed."""

    __tablename__ = "firewall_policy_rules"

    policy_id: Mapped[str] = mapped_column(ForeignKey("firewall_policies.id", ondelete="CASCADE"), primary_key=True)
    rule_id: Mapped[str] = mapped_column(ForeignKey("firewall_rules.id"), primary_key=True, index=True)
    position: Mapped[int] = mapped_column(Integer)


class FirewallGroup(StandardAttributes, Base):
    """A group. ``generation`` and ``changed_at`` are those of the last change to what it enforces.

    ``realised_once``: since it last covered no port, all its bound ports have once been realised. ``stratum`` and
    ``scope`` are names of ``model.Stratum`` and of ``service.strata``.
    """

    __tablename__ = "firewall_groups"

    default_of: Mapped[str | None] = mapped_column(String(36), unique=True)
    shared: Mapped[bool] = mapped_column(Boolean, default=False)
    stratum: Mapped[str] = mapped_column(String(16), default="tenant", index=True)
    position: Mapped[int] = mapped_column(Integer, default=0)  # among the groups of its stratum; lower decides first
    scope: Mapped[str] = mapped_column(String(16), default="ports")
    admin_state_up: Mapped[bool] = mapped_column(Boolean, default=True)
    ingress_firewall_policy_id: Mapped[str | None] = mapped_column(ForeignKey("firewall_policies.id"), index=True)
    egress_firewall_policy_id: Mapped[str | None] = mapped_column(ForeignKey("firewall_policies.id"), index=True)
    generation: Mapped[int] = mapped_column(BigInteger, default=0)
    changed_at: Mapped[datetime] = mapped_column(Time)
    realised_once: Mapped[bool] = mapped_column(Boolean, default=False)


class GroupProject(Base):
    """Group ``group_id``, of scope ``projects``, covers the ports of project ``project_id``, now and later."""

    __tablename__ = "firewall_group_projects"

    group_id: Mapped[str] = mapped_column(ForeignKey("firewall_groups.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(36), primary_key=True, index=True)


class GroupPort(Base):
    """Group ``group_id`` covers port ``port_id``, by whatever scope; ``position`` keeps the user's order."""

    __tablename__ = "firewall_group_ports"

    group_id: Mapped[str] = mapped_column(ForeignKey("firewall_groups.id", ondelete="CASCADE"), primary_key=True)
    port_id: Mapped[str] = mapped_column(ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True, index=True)
    position: Mapped[int] = mapped_column(Integer)


class AddressGroup(StandardAttributes, Base):
    """A named set of addresses; they are members of the address set with its id."""

    __tablename__ = "address_groups"

    shared: Mapped[bool] = mapped_column(Boolean, default=False)


class AddressSet(Base):
    """What rules may name as an address: ``id`` is that of an address group, or of a firewall group that a rule names.

    ``version`` is the generation of the last change to its members; changes up to ``logged_since`` are not known any
    more member by member. ``fingerprint`` (``channel.messages``) is of its members, in hex.
    """

    __tablename__ = "address_sets"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    logged_since: Mapped[int] = mapped_column(BigInteger, default=0)
    fingerprint: Mapped[str] = mapped_column(String(64), default="")


class AddressSetMember(Base):
    """``address``, a canonical prefix, came into the set at generation ``added``, and left it at ``removed``."""

    __tablename__ = "address_set_members"

    set_id: Mapped[str] = mapped_column(ForeignKey("address_sets.id", ondelete="CASCADE"), primary_key=True)
    address: Mapped[str] = mapped_column(String(64), primary_key=True)
    added: Mapped[int] = mapped_column(BigInteger)
    removed: Mapped[int | None] = mapped_column(BigInteger)


class Port(StandardAttributes, Base):
    """The inventory, in Neutron's shape. ``host`` is ``binding:host_id``, "" for a port bound nowhere."""

    __tablename__ = "ports"

    network_id: Mapped[str] = mapped_column(String(36), default="", index=True)
    mac_address: Mapped[str] = mapped_column(String(17), default="")
    fixed_ips: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    device_owner: Mapped[str] = mapped_column(String(255), default="")
    device_id: Mapped[str] = mapped_column(String(255), default="", index=True)
    host: Mapped[str] = mapped_column(String(255), default="", index=True)
    binding_profile: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    allowed_address_pairs: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    port_security_enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    admin_state_up: Mapped[bool] = mapped_column(Boolean, default=True)
    status: Mapped[str] = mapped_column(String(16), default="ACTIVE")


class Host(Base):
    """A host that may run an agent, and the last thing its agent said. Written without the lock of ``state``."""

    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)  # SHA-256, hex; the token has 256 random bits
    created_at: Mapped[datetime] = mapped_column(Time)
    revoked_at: Mapped[datetime | None] = mapped_column(Time)
    last_poll_at: Mapped[datetime | None] = mapped_column(Time)
    realised_generation: Mapped[int] = mapped_column(BigInteger, default=0)


class PortError(Base):
    """Why ``host`` could not enforce port ``port_id`` at the generation it last reported; no row: it does."""

    __tablename__ = "port_errors"

    host: Mapped[str] = mapped_column(ForeignKey("hosts.name", ondelete="CASCADE"), primary_key=True)
    port_id: Mapped[str] = mapped_column(ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True)
    generation: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)


class RuleCounter(Base):
    """How often rule ``rule_id`` decided on ``host``. Written without the lock of ``state``.

    ``packets`` and ``bytes`` are what the host says it counted since ``since``; what it counted before it had to begin
    again is in ``earlier_packets`` and ``earlier_bytes``, and ``first_since`` is when the first of all counts began.
    """

    __tablename__ = "rule_counters"

    rule_id: Mapped[str] = mapped_column(ForeignKey("firewall_rules.id", ondelete="CASCADE"), primary_key=True)
    host: Mapped[str] = mapped_column(ForeignKey("hosts.name", ondelete="CASCADE"), primary_key=True)
    since: Mapped[datetime] = mapped_column(Time)
    packets: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    first_since: Mapped[datetime] = mapped_column(Time)
    earlier_packets: Mapped[int] = mapped_column(BigInteger, default=0)
    earlier_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    last: Mapped[datetime | None] = mapped_column(Time)
