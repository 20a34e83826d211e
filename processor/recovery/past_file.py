"""Writes the file of a backfill."""

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import TextIO

from processor.counting.ci_metrics import Catalogue, CiCounter, CiHistogram, labels_text, named_labels
from processor.counting.past import STEP
from processor.exposition.past import END, PastText, merged
from processor.exposition.text import LabelReader
from processor.store import Store, past_rows, recovery
from processor.store.past_rows import Backfill
from shared.errors import RecoveryError
from shared.logs import get_logger

_log = get_logger(__name__)


async def write_past_file(store: Store, backfill: Backfill, catalogue: Catalogue, max_series: int, file: Path) -> int:
    """Write what a backfill has counted; return the time of the last samples (Unix ms).

    A metric has at most `max_series` series; what the others have goes to its overflow series. One series at a time is
    in memory. The file appears under its name once it is complete. Raises `RecoveryError` if it cannot be written, and
    `StoreError`.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("w", encoding="utf-8") as stream:
            end = await _write(store, backfill, catalogue, max_series, stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        raise RecoveryError(
            f"{file}: cannot be written ({error.strerror}); what has been read is kept: run the command again"
        ) from error
    async with store.connection() as connection:
        await past_rows.finish(connection, backfill)
    return end


async def _write(store: Store, backfill: Backfill, catalogue: Catalogue, max_series: int, stream: TextIO) -> int:
    async with store.reading() as connection:
        now = -(-await recovery.now(connection) // STEP) * STEP
        # The clock of this process, by which increments are at most now, may be ahead of that of the database.
        text = PastText(backfill.began_at, max(now, await past_rows.newest_step(connection, backfill)))
        for metric in catalogue:
            if not isinstance(metric, CiCounter | CiHistogram):
                continue
            reader = LabelReader(metric, _unreadable)
            written = 0
            others: Counter[tuple[int, int]] = Counter()
            async for labels, changes in past_rows.read(connection, backfill, metric.name):
                if not written:
                    stream.write(text.header(metric))
                if written < max_series:
                    written += 1
                    stream.writelines(text.series(metric, labels, changes, reader))
                    await asyncio.sleep(0)  # so that the lease is renewed, even if no row has to be waited for
                else:
                    for step, parts in changes.items():
                        for bound, value in parts.items():
                            others[step, bound] += value
            if others:
                _, values = metric.overflow()
                labels = labels_text(named_labels(zip(metric.label_names, values, strict=True)))
                stream.writelines(text.series(metric, labels, merged(others), reader))
    stream.write(END)
    return text.end


def _unreadable(metric: str, labels: str) -> None:
    _log.warning("a series of the past is left out: it has labels that are not exposed", metric=metric, labels=labels)
