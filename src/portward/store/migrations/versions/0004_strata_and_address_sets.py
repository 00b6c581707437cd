"""Strata and scopes of groups, address groups, sets of addresses, and rules by ICMP type."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import DATETIME

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql")
_REFERENCES = {
    f"{side}_{table[:-1]}_id": table
    for table in ("address_groups", "firewall_groups")
    for side in ("source", "destination")
}


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "address_groups",
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_address_groups")),
    )
    op.create_index(op.f("ix_address_groups_project_id"), "address_groups", ["project_id"])
    op.create_table(
        "address_sets",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("logged_since", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_address_sets")),
    )
    op.create_table(
        "address_set_members",
        sa.Column("set_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["set_id"],
            ["address_sets.id"],
            name=op.f("fk_address_set_members_set_id_address_sets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("set_id", "address", name=op.f("pk_address_set_members")),
    )
    with op.batch_alter_table("firewall_groups") as batch:
        batch.add_column(sa.Column("stratum", sa.String(length=16), nullable=False, server_default="tenant"))
        batch.add_column(sa.Column("position", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("scope", sa.String(length=16), nullable=False, server_default="ports"))
        batch.create_index(op.f("ix_firewall_groups_stratum"), ["stratum"])
    op.create_table(
        "firewall_group_projects",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["firewall_groups.id"],
            name=op.f("fk_firewall_group_projects_group_id_firewall_groups"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("group_id", "project_id", name=op.f("pk_firewall_group_projects")),
    )
    op.create_index(op.f("ix_firewall_group_projects_project_id"), "firewall_group_projects", ["project_id"])
    with op.batch_alter_table("firewall_rules") as batch:
        for column, table in _REFERENCES.items():
            batch.add_column(sa.Column(column, sa.String(length=36), nullable=True))
            batch.create_index(op.f(f"ix_firewall_rules_{column}"), [column])
            batch.create_foreign_key(op.f(f"fk_firewall_rules_{column}_{table}"), table, [column], ["id"])
        batch.add_column(sa.Column("icmp_type", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("icmp_code", sa.Integer(), nullable=True))
