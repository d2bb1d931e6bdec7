"""Why a run gave no answer, so that it can be told afterwards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("fault", sa.String(32), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "fault")
