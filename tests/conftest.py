"""Fixtures for every test: a real Kafka, counted, and a real browser.

A test that needs Kafka never skips for want of one: without a broker it fails and says how to get one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from hypothesis import settings

from tests.browser import NoBrowserError, Page, browser, browsing
from tests.kafka_broker import HOW_TO_GET_ONE, Broker, DockerBroker, NoKafkaError, ScriptBroker, answers, own

# What the suites assert is told in full only if pytest sees them before anybody imports them.
pytest.register_assert_rewrite("tests.contract")

# Nothing here is asserted of time: an example that takes long on a busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

FIXTURES = {"kafka", "broker", "new_topic"}


@dataclass
class Usage:
    """What the closing line tells."""

    tests: int = 0
    shared: str = ""
    broken: str = ""


USAGE = pytest.StashKey[Usage]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say on the command line where Kafka comes from."""
    parser.addoption(
        "--kafka",
        default=os.environ.get("KAFKA_BOOTSTRAP") or "auto",
        metavar="WHERE",
        help="host:port of a broker, auto (Docker if it works, else Java), docker, java, or none: whatever needs one "
        "fails at once (default: $KAFKA_BOOTSTRAP, else auto)",
    )
    parser.addoption(
        "--browser",
        default=os.environ.get("CHROMIUM") or "auto",
        metavar="WHICH",
        help="path of a Chromium, auto (whichever is installed; without one, what needs it is skipped and says so), or must: "
        "without one it fails (default: $CHROMIUM, else auto)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start counting."""
    config.stash[USAGE] = Usage()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for a broker, before `-m` chooses."""
    for item in items:
        if FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("broker")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Count what ran with a broker."""
    report = yield
    if call.when == "call" and not report.skipped and item.get_closest_marker("broker"):
        item.config.stash[USAGE].tests += 1
    return report


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Close with how many tests had a real Kafka, and which."""
    usage = config.stash[USAGE]
    if not (usage.shared or usage.broken):
        terminalreporter.write_line("kafka: no test used a broker")
        return
    where = "; ".join(filter(None, (usage.shared, usage.broken and f"to be broken: {usage.broken}")))
    terminalreporter.write_line(f"kafka: {usage.tests} tests used a real broker at {where}")


def _started(where: str) -> Broker:
    """Start a broker of our own, in the way that the option names."""
    if where == "none":
        pytest.fail("this test needs Kafka, and --kafka=none was said; mark it pytest.mark.broker", pytrace=False)
    try:
        if where == "docker":
            return DockerBroker()
        if where == "java":
            return ScriptBroker()
        return own()
    except NoKafkaError as exc:
        pytest.fail(str(exc), pytrace=False)


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[str]:
    """Yield host:port of the Kafka that all tests share. None may break it; topics are made under fresh names."""
    where = pytestconfig.getoption("--kafka")
    usage = pytestconfig.stash[USAGE]
    if ":" in where:
        if not any(answers(one, within=10) for one in where.split(",")):
            pytest.fail(f"KAFKA_BOOTSTRAP={where} does not answer.\n{HOW_TO_GET_ONE}", pytrace=False)
        usage.shared = f"{where} (KAFKA_BOOTSTRAP)"
        yield where
        return
    started = _started(where)
    try:
        usage.shared = f"{started.bootstrap} ({started.made_by})"
        yield started.bootstrap
    finally:
        started.close()


@pytest.fixture(scope="session")
def _breakable(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """Yield a second broker, started only when a test asks for one to break."""
    where = pytestconfig.getoption("--kafka")
    started = _started("auto" if ":" in where else where)
    try:
        pytestconfig.stash[USAGE].broken = f"{started.bootstrap} ({started.made_by})"
        yield started
    finally:
        started.close()


@pytest.fixture
def broker(_breakable: Broker) -> Iterator[Broker]:
    """Yield a broker that this test may pause, kill, stop and start; the next test finds it whole again."""
    try:
        yield _breakable
    finally:
        _breakable.mend()


@pytest.fixture
async def page(pytestconfig: pytest.Config) -> AsyncIterator[Page]:
    """Yield a page of a real browser, which keeps nothing and reaches this machine alone."""
    where = pytestconfig.getoption("--browser")
    try:
        path = browser(where)
    except NoBrowserError as exc:
        if where == "auto":
            pytest.skip(f"--browser=auto: {exc}")
        pytest.fail(str(exc), pytrace=False)
    async with browsing(path) as page:
        yield page


@pytest.fixture
async def new_topic(kafka: str) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Yield the maker of a topic of the test's own on the shared Kafka; it takes the partitions, and gives the name."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    made: list[str] = []

    async def make(*, partitions: int = 1, name: str = "topic") -> str:
        topic = f"{name}-{uuid4().hex[:12]}"
        reply = await admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])
        # aiokafka doesn't raise for these: (name, code, text) each.
        assert [0] == [code for _, code, *_ in reply.topic_errors], reply.topic_errors
        made.append(topic)
        return topic

    try:
        yield make
    finally:
        # The broker may be somebody's own.
        if made:
            await admin.delete_topics(made)
        await admin.close()
