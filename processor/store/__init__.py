"""The store: tables, statements by purpose, migrations."""
