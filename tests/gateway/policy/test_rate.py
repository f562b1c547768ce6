"""The policy `rate`, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallerError, Reason
from gateway.exchange import Exchange, Memory, Principal
from gateway.message import Headers
from gateway.policy import Guard, PolicyConfig
from gateway.policy.rate import Config, Rate
from gateway.status import retry_after
from tests.contract.policy import PolicyContract, a_call


class TestContract(PolicyContract):
    @pytest.fixture
    def config(self):
        return Config(limit=1000)


async def _done(_exchange: Exchange) -> None:
    pass


class Shop:
    """A rate policy and its clock."""

    def __init__(self, **settings):
        self.now = 1000.0
        self.policy = Rate(Config(**settings), lambda: self.now)

    async def wait(self, **call) -> float | None:
        """How long the caller is told to wait; None if it is let in."""
        try:
            await self.policy(Memory(call=a_call(**call)), _done)
        except CallerError as error:
            return retry_after(error)
        return None


async def test_a_refusal_says_the_rate_and_why():
    shop = Shop(limit=1, per="minute")
    await shop.wait()
    with pytest.raises(CallerError, match="more than 1 a minute") as raised:
        await shop.policy(Memory(call=a_call()), _done)
    assert Reason.RATE_LIMITED is raised.value.reason


async def test_after_the_burst_a_caller_is_told_exactly_when_to_come_again():
    shop = Shop(limit=10, burst=3)
    assert [None] * 3 == [await shop.wait() for _ in range(3)]
    wait = await shop.wait()
    assert pytest.approx(0.1, abs=1e-6) == wait
    shop.now += wait - 0.001
    assert pytest.approx(0.001, abs=1e-6) == await shop.wait()
    shop.now += 0.001
    assert None is await shop.wait()
    assert None is not await shop.wait()


async def test_the_burst_is_the_limit_unless_told_and_a_refusal_takes_nothing():
    shop = Shop(limit=6, per="minute")
    assert [None] * 6 == [await shop.wait() for _ in range(6)]
    assert [pytest.approx(10.0, abs=1e-3)] * 5 == [await shop.wait() for _ in range(5)]
    shop.now += 60
    assert [None] * 6 == [await shop.wait() for _ in range(6)]
    assert None is not await shop.wait()


@given(st.integers(1, 50), st.integers(1, 20), st.lists(st.floats(0, 3), max_size=200))
async def test_it_lets_in_as_a_token_bucket_would(limit, burst, pauses):
    shop = Shop(limit=limit, burst=burst)
    tokens, let_in = float(burst), 0
    for pause in pauses:
        shop.now += pause
        tokens = min(burst, tokens + pause * limit)
        wait = await shop.wait()
        if wait is None:
            let_in += 1
            assert tokens > 1 - 1e-3
            tokens -= 1
        else:
            assert tokens < 1 + 1e-3
            assert pytest.approx((1 - tokens) / limit, abs=1e-3) == wait
    assert let_in <= burst + limit * sum(pauses) + 1e-3


@pytest.mark.parametrize(
    ("settings", "one", "same", "other"),
    [
        ({"by": "address"}, {"peer": "192.0.2.1"}, {"peer": "::ffff:192.0.2.1"}, {"peer": "192.0.2.2"}),
        ({"by": "address"}, {"peer": "2001:db8::1"}, {"peer": "2001:db8::2:1"}, {"peer": "2001:db8:0:1::1"}),
        ({"by": "address"}, {"peer": "no:address"}, {"peer": "no:address"}, {"peer": "no:other"}),
        (
            {"by": "header", "header": "X-Api-Key"},
            {"headers": Headers((("x-api-key", "a"),))},
            {"headers": Headers((("x-api-key", "a"),)), "peer": "192.0.2.9"},
            {"headers": Headers((("x-api-key", "b"),))},
        ),
        (
            {"by": "header", "header": "x-api-key"},
            {},
            {"peer": "192.0.2.9"},
            {"headers": Headers((("x-api-key", "b"),))},
        ),
        ({"by": "principal"}, {"principal": Principal("ada")}, {"principal": Principal("ada")}, {"principal": Principal("bob")}),
        ({"by": "principal"}, {}, {"peer": "192.0.2.9"}, {"principal": Principal("bob")}),
    ],
)
async def test_who_one_caller_is(settings, one, same, other):
    shop = Shop(limit=1, **settings)
    assert None is await shop.wait(**one)
    assert None is not await shop.wait(**same)
    assert None is await shop.wait(**other)


async def test_by_route_everybody_shares_one_bucket():
    shop = Shop(limit=1, by="route")
    assert None is await shop.wait(peer="192.0.2.1")
    assert None is not await shop.wait(peer="192.0.2.2")


async def test_the_caller_that_has_been_away_longest_is_forgotten_and_memory_stays_bounded():
    shop = Shop(limit=1, per="minute", callers=3)
    for peer in "abca":
        await shop.wait(peer=peer)
    for peer in "d":
        await shop.wait(peer=peer)
    assert 3 == len(shop.policy._full_at)
    assert None is not await shop.wait(peer="a")
    assert None is await shop.wait(peer="b")


async def test_the_protocols_of_a_route_share_its_buckets_and_two_routes_share_nothing():
    config = Config(limit=1, per="minute")
    await config.build("orders", "rest")(Memory(call=a_call()), _done)
    with pytest.raises(CallerError, match="more than 1 a minute"):
        await config.build("orders", "grpc")(Memory(call=a_call()), _done)
    await config.build("stock", "rest")(Memory(call=a_call()), _done)


@pytest.mark.parametrize("settings", [{"by": "header"}, {"header": "x-api-key"}, {"by": "header", "header": "a b"}, {"limit": 0}])
def test_what_does_not_fit_together_is_refused(settings):
    with pytest.raises(ValueError, match=r"belong together|must be|greater than"):
        Config(**{"limit": 1, **settings})


def test_it_guards_messages():
    assert Guard.MESSAGE is Config(limit=1).build("orders", "rest").guards


def test_callers_are_told_apart_by_who_they_are_only_behind_a_policy_that_finds_out():
    class Login(PolicyConfig):
        identifies = True

        def build(self, route, protocol):
            raise NotImplementedError

    rate = Config(limit=1, by="principal")
    ((field, why),) = rate.refusals([Config(limit=1)], None)
    assert ("by", True) == (field, "no policy before it finds out who calls" in why)
    assert () == rate.refusals([Login(kind="login")], None)
    assert () == Config(limit=1).refusals([], None)
