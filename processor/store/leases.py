"""The statements of the lease, by the database's clock so that the holders' clocks do not matter."""

from dataclasses import dataclass

from sqlalchemy import or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.store.clock import database_now
from processor.store.engine import dialect_of
from processor.store.tables import leases


@dataclass(frozen=True, slots=True)
class Grant:
    """What the row says: who has the lease, and until when, in Unix milliseconds of the database's clock."""

    holder: str
    expires_at: int


async def acquire(connection: AsyncConnection, name: str, holder: str, ttl_ms: int, dead: Grant | None = None) -> bool:
    """Take the lease or extend it by `ttl_ms` from now; return False if somebody else holds it.

    A `dead` grant may be taken over whatever the clock says.
    """
    insert = postgresql.insert if dialect_of(connection) == "postgresql" else sqlite.insert
    row = {"name": name, "holder": holder, "expires_at": database_now() + ttl_ms}
    statement = insert(leases).values(row)
    statement = statement.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={"holder": statement.excluded.holder, "expires_at": statement.excluded.expires_at},
        where=or_(
            leases.c.holder == holder,
            leases.c.expires_at <= database_now(),
            *([] if dead is None else [(leases.c.holder == dead.holder) & (leases.c.expires_at == dead.expires_at)]),
        ),
    )
    return (await connection.scalars(statement.returning(leases.c.holder))).first() is not None


async def granted(connection: AsyncConnection, name: str) -> Grant | None:
    """Return who has the lease, if anybody ever had."""
    row = (await connection.execute(select(leases.c.holder, leases.c.expires_at).where(leases.c.name == name))).first()
    return Grant(*row) if row else None


async def release(connection: AsyncConnection, name: str, holder: str) -> None:
    """Let another take the lease at once, if `holder` has it."""
    mine = (leases.c.name == name) & (leases.c.holder == holder)
    await connection.execute(update(leases).where(mine).values(expires_at=0))
