"""Default groups of projects, with their policies and rules, and tags."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "resource_tags",
        sa.Column("resource_id", sa.String(length=36), nullable=False),
        sa.Column("tag", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", "tag", name=op.f("pk_resource_tags")),
    )
    for table in ("firewall_rules", "firewall_policies"):
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("default_of", sa.String(length=36), nullable=True))
            batch.create_index(op.f(f"ix_{table}_default_of"), ["default_of"])
    with op.batch_alter_table("firewall_groups") as batch:
        batch.add_column(sa.Column("default_of", sa.String(length=36), nullable=True))
        batch.create_unique_constraint(op.f("uq_firewall_groups_default_of"), ["default_of"])
