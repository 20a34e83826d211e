"""How aiormq's errors after a lost connection are converted."""

import asyncio

import pytest

from shared.brokers.rabbitmq.link import cut_as_error


@pytest.mark.parametrize("said", [Exception, asyncio.CancelledError])
async def test_what_aiormq_says_of_a_cut_is_an_error_of_the_connection(said: type[BaseException]) -> None:
    with pytest.raises(ConnectionError), cut_as_error():
        raise said


async def test_any_other_error_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="other"), cut_as_error():
        raise ValueError("other")


async def test_a_cancellation_that_was_asked_for_stays_one() -> None:
    async def wait() -> None:
        with cut_as_error():
            await asyncio.sleep(60)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
