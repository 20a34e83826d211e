"""PostgreSQL errors that are not caused by the data are retried, and never make a dead letter."""

import asyncpg
import pytest

from tests.support import builders, figures
from tests.support.worker import worker

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
    ("state", "cause"),
    [
        pytest.param("40P01", "deadlock", id="deadlock_detected"),
        pytest.param("40001", "serialization", id="serialization_failure"),
        pytest.param("55P03", "lock", id="lock_not_available"),
        pytest.param("57014", "timeout", id="query_canceled"),
        pytest.param("57P01", "connection", id="admin_shutdown"),
        pytest.param("57P03", "connection", id="cannot_connect_now"),
        pytest.param("53100", "other", id="disk_full"),
        pytest.param("53300", "other", id="too_many_connections"),
        pytest.param("25006", "other", id="read_only_sql_transaction"),
    ],
)
async def test_a_failure_of_the_database_is_tried_again_and_counts_everything_once(
    state: str, cause: str, database_url: str
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
        retries = counting.metrics.registry.get_sample_value("promgithub_event_retries_total", {"cause": cause})
        assert retries == FAILURES
        counted = await counting.figures()
        assert figures.value(counted, "promgithub_push_total", repository="acme/gears") == len(pushes)


LOST_ONCE = """
CREATE SEQUENCE losses;
CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('losses') = 1 THEN
        %s
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER lose %s EXECUTE FUNCTION lose();
"""


@pytest.mark.parametrize(
    ("loss", "moment"),
    [
        pytest.param("DELETE FROM jobs;", "AFTER INSERT ON jobs FOR EACH STATEMENT", id="before it is locked"),
        pytest.param("RETURN NULL;", "BEFORE UPDATE ON jobs FOR EACH ROW", id="before it is saved"),
    ],
)
async def test_a_row_that_is_deleted_while_it_is_counted_counts_once(loss: str, moment: str, database_url: str) -> None:
    done = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5)
    async with worker(database_url) as counting:
        await counting.count([builders.delivery(done, builders.guid(1))])
        connection = await asyncpg.connect(database_url)
        await connection.execute(LOST_ONCE % (loss, moment))
        await connection.close()
        batch = await counting.count([builders.delivery(builders.job(), builders.guid(2))])
        assert batch.dead == []
        retries = counting.metrics.registry.get_sample_value(
            "promgithub_event_retries_total", {"cause": "serialization"}
        )
        assert retries == 1
        counted = await counting.figures()
        assert figures.total(counted, "promgithub_job_status_total", job_status="completed") == 1
        assert figures.total(counted, "promgithub_job_status_total", job_status="queued") == 1
