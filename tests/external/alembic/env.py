"""Runs Alembic's revisions on DATABASE_URL."""

import sys
from pathlib import Path

from alembic import context

sys.path.insert(0, str(Path(__file__).parent))
import models  # noqa: E402

with models.engine().connect() as connection:
    context.configure(connection=connection, target_metadata=models.Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
