"""What PostgreSQL reports when it is not the data's fault is tried again in place, and never becomes a dead letter."""

import asyncpg
import pytest

from tests import builders, figures
from tests.worker import worker

FAILURES = 3

# A sequence is not rolled back with the transaction that asked it.
FAILING = f"""
CREATE SEQUENCE attempts;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('attempts') <= {FAILURES} THEN
        RAISE EXCEPTION 'made to fail' USING ERRCODE = '%s';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fail AFTER INSERT ON counters FOR EACH STATEMENT EXECUTE FUNCTION fail();
"""


async def make_fail(url: str, state: str) -> None:
    """Let the next transactions that count fail with an SQLSTATE, after all but their last writes."""
    connection = await asyncpg.connect(url)
    await connection.execute(FAILING % state)
    await connection.close()


@pytest.mark.parametrize(
    "state",
    [
        pytest.param("40P01", id="deadlock_detected"),
        pytest.param("40001", id="serialization_failure"),
        pytest.param("55P03", id="lock_not_available"),
        pytest.param("57014", id="query_canceled"),
        pytest.param("57P01", id="admin_shutdown"),
        pytest.param("57P03", id="cannot_connect_now"),
        pytest.param("53100", id="disk_full"),
        pytest.param("53300", id="too_many_connections"),
        pytest.param("25006", id="read_only_sql_transaction"),
    ],
)
async def test_a_failure_of_the_database_is_tried_again_and_counts_everything_once(
    state: str, database_url: str
) -> None:
    async with worker(database_url) as counting:
        await make_fail(database_url, state)
        pushes = [builders.delivery(builders.push()) for _ in range(30)]
        batch = await counting.count(pushes)
        assert batch.dead == []
        failures = counting.metrics.registry.get_sample_value(
            "promgithub_event_processing_failures_total", {"event_type": "push"}
        )
        assert failures == FAILURES * len(pushes), "was split, rather than tried again as it was"
        counted = await counting.figures()
        assert figures.value(counted, "promgithub_push_total", repository="acme/gears") == len(pushes)
