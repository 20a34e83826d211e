"""The store: tables, statements by purpose, migrations."""

from processor.store.store import Store

__all__ = ["Store"]
