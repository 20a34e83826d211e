"""What earlier releases wrote, as `tests.support.record_release` has stored it in a folder for each release."""

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
from aio_pika.abc import AbstractIncomingMessage
from sqlalchemy import Connection, MetaData, make_url, select

from shared.brokers.spool.file import FILE
from tests.support import figures
from tests.support.figures import Figures, Sample

RELEASES = Path(__file__).parents[1] / "releases"


def _place(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


VERSIONS = sorted((folder.name for folder in RELEASES.iterdir()), key=_place)
"""The recorded releases. The last one is the neighbour of this release."""

RABBITMQ, SPOOL, ROWS = "rabbitmq.json", "spool.sql", "rows.sql"
"""The queues and the messages, the spool, and the rows that the release wrote into the store of either kind."""

FIGURES, LATER_FIGURES, STATES = "figures.txt", "figures-later.txt", "states-later.json"
"""The figures of the store; and the figures and the states after the messages were counted too."""

States = Mapping[str, tuple[str, int]]
"""The state in JSON and the flags of each row that has them, by table and primary key."""

_ADDED_BY_RABBITMQ = ("x-delivery-count", "x-acquired-count")

Described = Mapping[str, Any]
"""A message in JSON: `routing_key`, `properties`, `headers` and `body`."""


def schema_file(dialect: str) -> str:
    """Return the name of the file with the statements of the release's migrations."""
    return f"schema.{dialect}.sql"


def states_of(connection: Connection) -> States:
    """Return the states in a store."""
    found = MetaData()
    found.reflect(connection)
    states: dict[str, tuple[str, int]] = {}
    for table in found.tables.values():
        if {"state", "flags"} <= set(table.c.keys()):
            keys = list(table.primary_key)
            for *key, state, flags in connection.execute(select(*keys, table.c.state, table.c.flags)):
                if state is None:  # the row was only locked
                    continue
                states[" ".join([table.name, *(str(part).replace("-", "") for part in key)])] = state, flags
    return dict(sorted(states.items()))


def describe(message: AbstractIncomingMessage) -> Described:
    """Return a message as it is on RabbitMQ."""
    properties = {
        "content_type": message.content_type,
        "delivery_mode": None if message.delivery_mode is None else int(message.delivery_mode),
        "message_id": message.message_id,
        "timestamp": None if message.timestamp is None else int(message.timestamp.timestamp()),
        "type": message.type,
    }
    return {
        "routing_key": message.routing_key,
        "properties": {name: value for name, value in properties.items() if value is not None},
        "headers": {name: value for name, value in message.headers.items() if name not in _ADDED_BY_RABBITMQ},
        "body": message.body.decode(),
    }


def message_of(described: Described) -> aio_pika.Message:
    """Return the message that was described."""
    properties = dict(described["properties"])
    properties["timestamp"] = datetime.fromtimestamp(properties["timestamp"], tz=UTC)
    return aio_pika.Message(described["body"].encode(), headers=described["headers"], **properties)


@dataclass(frozen=True)
class Recorded:
    """What one release wrote."""

    folder: Path

    @cached_property
    def _rabbitmq(self) -> Mapping[str, Any]:
        content: Mapping[str, Any] = json.loads(self._text(RABBITMQ))
        return content

    @property
    def topology(self) -> Mapping[str, Any]:
        """The names of the default exchange and queues, and the arguments of the queues."""
        topology: Mapping[str, Any] = self._rabbitmq["topology"]
        return topology

    @property
    def messages(self) -> Sequence[Described]:
        """The messages in the queue. Some are about what the store has as open, and one has been counted already."""
        messages: Sequence[Described] = self._rabbitmq["messages"]
        return messages

    @property
    def spooled(self) -> Sequence[Described]:
        """The messages whose deliveries are in the spool, too."""
        spool = self._text(SPOOL)
        return [message for message in self.messages if message["properties"]["message_id"] in spool]

    @property
    def dead_letters(self) -> Sequence[Described]:
        """The messages in the dead-letter queue. The spool has dead letters of the same deliveries."""
        letters: Sequence[Described] = self._rabbitmq["dead_letters"]
        return letters

    @property
    def figures(self) -> Figures:
        """What the release exposed about CI from the store."""
        return figures.of_ci(figures.of_text(self._text(FIGURES)))

    @property
    def later_figures(self) -> Figures:
        """What it exposed after it had counted the messages too, and nothing was waiting for `GRACE`."""
        return figures.of_ci(figures.of_text(self._text(LATER_FIGURES)))

    @property
    def later_states(self) -> States:
        """The states after that."""
        return {key: (state, flags) for key, (state, flags) in json.loads(self._text(STATES)).items()}

    async def restore_store(self, url: str) -> None:
        """Create the release's tables and rows in an empty database."""
        await self._run(url, schema_file(make_url(url).get_backend_name()))
        await self.write_rows(url)

    async def write_rows(self, url: str) -> None:
        """Write the rows of the release into a database that has the tables."""
        await self._run(url, ROWS)

    def restore_spool(self, directory: Path) -> None:
        """Create the release's spool in a directory."""
        directory.mkdir()
        with closing(sqlite3.connect(directory / FILE)) as connection:
            connection.executescript(self._text(SPOOL))

    async def _run(self, url: str, file: str) -> None:
        path = make_url(url).database
        if url.startswith("sqlite") and path:
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(self._text(file))
            return
        postgres = await asyncpg.connect(url)
        try:
            await postgres.execute(self._text(file))
        finally:
            await postgres.close()

    def _text(self, file: str) -> str:
        return (self.folder / file).read_text("utf-8")


def as_recorded(found: Figures, recorded: Figures) -> Figures:
    """Return figures without what later releases may add: metrics, labels and buckets.

    Samples that differ only in an added label are summed.
    """
    names = {name: {label for label, _ in labels} for name, labels in recorded}
    bounds = {label for _, labels in recorded for label in labels if label[0] == "le"}
    sums: dict[Sample, float] = {}
    for (name, labels), value in found.items():
        if name in names and all(label in bounds for label in labels if label[0] == "le"):
            sample = name, frozenset(label for label in labels if label[0] in names[name])
            sums[sample] = sums.get(sample, 0) + value
    return sums
