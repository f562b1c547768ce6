"""Whatever the interleaving, a topic is what was appended to it, and every reader gets all of it in order."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.backend.local import Config
from gateway.message import Message
from tests.contract.log import everything, soon

KEYS = (None, b"ada", b"bob", b"mia")
STEPS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(["one", "three"]), st.lists(st.sampled_from(KEYS), min_size=1, max_size=8)),
    st.tuples(st.just("open"), st.sampled_from(["one", "three"]), st.floats(0, 1)),
    st.tuples(st.just("read"), st.integers(0, 7), st.none()),
)


class Model:
    """What the log should hold: the bodies of each partition of each topic, and what each reader has got."""

    def __init__(self, local) -> None:
        self.local = local
        self.held: dict[tuple[str, int], list[bytes]] = {}
        self.readers: list[tuple[str, object, dict[int, int], dict[int, list[bytes]]]] = []
        self.count = 0

    async def append(self, topic, keys):
        messages = []
        for key in keys:
            self.count += 1
            messages.append(Message(b"%d" % self.count, key=key))
        places = await asyncio.gather(*(self.local.append(topic, message, soon()) for message in messages))
        for place, message in sorted(zip(places, messages, strict=True), key=lambda pair: pair[0].offset):
            bodies = self.held.setdefault((topic, place.partition), [])
            assert len(bodies) == place.offset
            bodies.append(message.body)

    async def open(self, stack, topic, where):
        at = {number: int(end * where) for number, end in (await self.local.ends(topic)).items()}
        reader = await stack.enter_async_context(self.local.reading(topic, at))
        self.readers.append((topic, reader, at, {number: [] for number in at}))

    async def read(self, number):
        if not self.readers:
            return
        topic, reader, _, got = self.readers[number % len(self.readers)]
        ends = await self.local.ends(topic)
        if any(reader.at[partition] < end for partition, end in ends.items()):
            for record in await reader.read():
                got[record.partition].append(record.body)

    async def check(self):
        for number, (topic, reader, at, got) in enumerate(self.readers):
            while reader.at != await self.local.ends(topic):
                await self.read(number)
            assert {part: self.held.get((topic, part), [])[start:] for part, start in at.items()} == got
        for topic in ("one", "three"):
            for part in await self.local.ends(topic):
                held = [record.body for record in await everything(self.local, topic) if record.partition == part]
                assert self.held.get((topic, part), []) == held


async def run(path, steps):
    config = Config(kind="local", path=path, topics={"three": {"partitions": 3}})
    async with config.build() as local, AsyncExitStack() as stack:
        model = Model(local)
        for what, first, second in steps:
            if what == "append":
                await model.append(first, second)
            elif what == "open":
                await model.open(stack, first, second)
            else:
                await model.read(first)
        await model.check()
        return model


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_a_log_in_memory_equals_its_model(steps):
    asyncio.run(run(":memory:", steps))


@settings(max_examples=15, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_a_log_in_a_file_equals_its_model_and_again_once_it_is_opened_anew(steps):
    async def twice(path):
        model = await run(path, steps)
        async with Config(kind="local", path=path, topics={"three": {"partitions": 3}}).build() as local:
            model.local, model.readers = local, []
            await model.check()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(twice(str(Path(folder) / "log.db")))
