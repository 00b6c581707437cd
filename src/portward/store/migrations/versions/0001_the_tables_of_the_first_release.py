"""The tables of the first release, and the one row of ``state``."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import DATETIME

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "firewall_policies",
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("audited", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_firewall_policies")),
    )
    op.create_index(op.f("ix_firewall_policies_project_id"), "firewall_policies", ["project_id"])

    op.create_table(
        "firewall_rules",
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("protocol", sa.String(length=16), nullable=True),
        sa.Column("ip_version", sa.Integer(), nullable=False),
        sa.Column("source_ip_address", sa.String(length=64), nullable=True),
        sa.Column("destination_ip_address", sa.String(length=64), nullable=True),
        sa.Column("source_port", sa.String(length=11), nullable=True),
        sa.Column("destination_port", sa.String(length=11), nullable=True),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_firewall_rules")),
    )
    op.create_index(op.f("ix_firewall_rules_project_id"), "firewall_rules", ["project_id"])

    op.create_table(
        "hosts",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.Column("last_poll_at", _TIME, nullable=True),
        sa.Column("realised_generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_hosts_token_hash")),
    )
    op.create_table(
        "ports",
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("mac_address", sa.String(length=17), nullable=False),
        sa.Column("fixed_ips", sa.JSON(), nullable=False),
        sa.Column("device_owner", sa.String(length=255), nullable=False),
        sa.Column("device_id", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("binding_profile", sa.JSON(), nullable=False),
        sa.Column("allowed_address_pairs", sa.JSON(), nullable=False),
        sa.Column("port_security_enabled", sa.Boolean(), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ports")),
    )
    op.create_index(op.f("ix_ports_device_id"), "ports", ["device_id"])
    op.create_index(op.f("ix_ports_host"), "ports", ["host"])
    op.create_index(op.f("ix_ports_network_id"), "ports", ["network_id"])
    op.create_index(op.f("ix_ports_project_id"), "ports", ["project_id"])

    op.create_table(
        "state",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_state")),
    )
    op.create_table(
        "firewall_groups",
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("ingress_firewall_policy_id", sa.String(length=36), nullable=True),
        sa.Column("egress_firewall_policy_id", sa.String(length=36), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("realised_once", sa.Boolean(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["egress_firewall_policy_id"],
            ["firewall_policies.id"],
            name=op.f("fk_firewall_groups_egress_firewall_policy_id_firewall_policies"),
        ),
        sa.ForeignKeyConstraint(
            ["ingress_firewall_policy_id"],
            ["firewall_policies.id"],
            name=op.f("fk_firewall_groups_ingress_firewall_policy_id_firewall_policies"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_firewall_groups")),
    )
    op.create_index(
        op.f("ix_firewall_groups_egress_firewall_policy_id"), "firewall_groups", ["egress_firewall_policy_id"]
    )
    op.create_index(
        op.f("ix_firewall_groups_ingress_firewall_policy_id"), "firewall_groups", ["ingress_firewall_policy_id"]
    )
    op.create_index(op.f("ix_firewall_groups_project_id"), "firewall_groups", ["project_id"])

    op.create_table(
        "firewall_policy_rules",
        sa.Column("policy_id", sa.String(length=36), nullable=False),
        sa.Column("rule_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id"],
            ["firewall_policies.id"],
            name=op.f("fk_firewall_policy_rules_policy_id_firewall_policies"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["firewall_rules.id"], name=op.f("fk_firewall_policy_rules_rule_id_firewall_rules")
        ),
        sa.PrimaryKeyConstraint("policy_id", "rule_id", name=op.f("pk_firewall_policy_rules")),
    )
    op.create_index(op.f("ix_firewall_policy_rules_rule_id"), "firewall_policy_rules", ["rule_id"])

    op.create_table(
        "port_errors",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_port_errors_host_hosts"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["port_id"], ["ports.id"], name=op.f("fk_port_errors_port_id_ports"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host", "port_id", name=op.f("pk_port_errors")),
    )
    op.create_table(
        "firewall_group_ports",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["firewall_groups.id"],
            name=op.f("fk_firewall_group_ports_group_id_firewall_groups"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["port_id"], ["ports.id"], name=op.f("fk_firewall_group_ports_port_id_ports"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("group_id", "port_id", name=op.f("pk_firewall_group_ports")),
    )
    op.create_index(op.f("ix_firewall_group_ports_port_id"), "firewall_group_ports", ["port_id"])

    op.execute("INSERT INTO state (id, generation) VALUES (1, 0)")
