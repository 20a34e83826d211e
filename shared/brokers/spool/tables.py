"""The tables of the spool, and the names of their columns."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of arrival
    id TEXT NOT NULL,
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    received_at INTEGER NOT NULL, -- Unix milliseconds
    hook_id TEXT,
    target_type TEXT,
    target_id TEXT,
    source TEXT,
    host TEXT,
    checksum INTEGER NOT NULL, -- see `integrity.checksum_of`
    attempts INTEGER NOT NULL DEFAULT 0 -- how many processes have handed it to a consumer
);
CREATE TABLE IF NOT EXISTS dead_letters (
    letter INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER UNIQUE, -- the delivery's number; NULL if the delivery came from a file that was set aside
    id TEXT NOT NULL,
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    received_at INTEGER NOT NULL, -- Unix milliseconds
    hook_id TEXT,
    target_type TEXT,
    target_id TEXT,
    source TEXT,
    host TEXT,
    checksum INTEGER NOT NULL, -- that of the delivery
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    dead_at INTEGER NOT NULL -- Unix milliseconds
);
"""

FIELDS = "id, event, body, received_at, hook_id, target_type, target_id, source, host"
"""The columns of a delivery, in the order of `Delivery`."""

ROW = f"{FIELDS}, checksum"

DELIVERY_COLUMNS = ("number", *ROW.split(", "), "attempts")
DEAD_LETTER_COLUMNS = ("letter", "number", *ROW.split(", "), "reason", "detail", "dead_at")
"""All columns of the tables. The first one is the key."""
