"""Records on their way to the disk."""

from __future__ import annotations

import asyncio

import pytest

from gateway.embedded.append import Append
from gateway.errors import BackendError, Reason
from gateway.topic.log import Place

PLACES = [Place("t", 0, 0, 1), Place("t", 0, 1, 1)]


def append(**told):
    return Append((), 0, asyncio.get_running_loop().create_future(), **told)


async def test_one_is_told_its_place_and_several_theirs():
    one, several = append(), append(several=True)
    one.written(PLACES[:1])
    several.written(PLACES)
    assert PLACES[0] == await one.done
    assert PLACES == await several.done


@pytest.mark.parametrize(("handed", "reason"), [(False, Reason.UNREACHABLE), (True, Reason.UNKNOWN_OUTCOME)])
async def test_one_whose_time_is_over_is_in_doubt_only_if_the_disk_had_it(handed, reason):
    late = append(handed=handed)
    late.expire()
    late.written(PLACES[:1])
    with pytest.raises(BackendError) as caught:
        await late.done
    assert reason == caught.value.reason


async def test_one_that_was_written_in_time_does_not_expire():
    one = append()
    one.written(PLACES[:1])
    one.expire()
    assert PLACES[0] == await one.done
