"""Counters of rules."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import DATETIME

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "rule_counters",
        sa.Column("rule_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("packets", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("first_since", _TIME, nullable=False),
        sa.Column("earlier_packets", sa.BigInteger(), nullable=False),
        sa.Column("earlier_bytes", sa.BigInteger(), nullable=False),
        sa.Column("last", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["firewall_rules.id"],
            name=op.f("fk_rule_counters_rule_id_firewall_rules"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_rule_counters_host_hosts"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("rule_id", "host", name=op.f("pk_rule_counters")),
    )
