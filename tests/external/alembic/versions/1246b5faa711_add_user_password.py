"""add user password

Revision ID: 1246b5faa711
Revises: 586f9c3cd40c
Create Date: 2024-12-19 23:31:47
"""

import sqlalchemy as sa
from alembic import op

revision = "1246b5faa711"
down_revision = "586f9c3cd40c"


def upgrade() -> None:
    op.add_column("user", sa.Column("password_hash", sa.String(), nullable=True))
    op.create_unique_constraint(None, "user", ["name"])


def downgrade() -> None:
    op.drop_constraint("user_name_key", "user", type_="unique")
    op.drop_column("user", "password_hash")
