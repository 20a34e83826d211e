"""The database's clock. Times that several processes compare come from it."""

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

NOW = {
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
}
"""SQL for Unix milliseconds at the time of the statement, by dialect."""

BEGAN = {
    "postgresql": "CAST(extract(epoch FROM transaction_timestamp()) * 1000 AS BIGINT)",
    "sqlite": NOW["sqlite"],
}
"""SQL for Unix milliseconds at the start of the transaction, by dialect. It costs less, and is the same for a batch."""


class database_now(FunctionElement[int]):  # noqa: N801 - named as the SQL function that it stands for
    """Unix milliseconds at the time of the statement, by the database's clock."""

    type = BigInteger()
    inherit_cache = True


@compiles(database_now, "postgresql")
@compiles(database_now, "sqlite")
def _now(_element: Any, compiler: SQLCompiler, **_options: Any) -> str:
    # PostgreSQL can use an index with the result of a subquery, but not with that of a volatile function.
    return f"(SELECT {NOW[compiler.dialect.name]})"
