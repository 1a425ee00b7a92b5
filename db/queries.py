"""The named SQL statements of `sql/*.sql`, loaded once. Each file is one subject."""

from pathlib import Path
from typing import Any

import aiosql

_SQL = Path(__file__).parent / "sql"


def load(subject: str) -> Any:
    """The statements of `sql/<subject>.sql`, each a coroutine function by its name."""
    return aiosql.from_path(_SQL / f"{subject}.sql", "asyncpg", mandatory_parameters=False)
