"""What is kept of an idempotency key: an attempt that is under way or in doubt, or the receipts that it has ended in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.message import compact
from gateway.topic.log import Log, Offsets, Place
from gateway.topic.write import Receipt

MARK = "polygate-idempotency"
"""A record's header: the key that it was written for, and its number among those of one batch."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One of them."""

    fingerprint: str
    by: str
    """Whose it is: made anew for each."""
    wait: float
    """For how many seconds nobody else may try, from when they have first seen it."""
    doubt: bool = False
    """It has ended, and whether its records were written is not known."""
    since: Mapping[str, Offsets] = field(default_factory=dict)
    """By topic, where its records can stand at the earliest; empty where that was not known."""
    receipts: tuple[Receipt, ...] = ()

    def written(self) -> bytes:
        """As it is kept."""
        told: dict[str, Any] = {"for": self.fingerprint}
        if self.receipts:
            return compact(told | {"receipts": [_told(one) for one in self.receipts]}).encode()
        since = {topic: {str(number): offset for number, offset in at.items()} for topic, at in self.since.items()}
        return compact(told | {"by": self.by, "wait": self.wait, "doubt": self.doubt, "since": since}).encode()

    def ended(self, receipts: Sequence[Receipt]) -> Attempt:
        """The same with its receipts."""
        return replace(self, receipts=tuple(replace(one, fate=None) for one in receipts))


def read(value: bytes) -> Attempt:
    """What is kept."""
    told = json.loads(value)
    if "receipts" in told:
        return Attempt(told["for"], "", 0.0, receipts=tuple(_receipt(one) for one in told["receipts"]))
    since = {topic: {int(number): offset for number, offset in at.items()} for topic, at in told["since"].items()}
    return Attempt(told["for"], told["by"], told["wait"], told["doubt"], since)


def _told(receipt: Receipt) -> list[object]:
    place = receipt.place
    if place is None:
        return [receipt.id, receipt.state]
    return [place.topic, place.partition, place.offset, place.timestamp]


def _receipt(told: Sequence[Any]) -> Receipt:
    if len(told) == 2:  # noqa: PLR2004  id and state
        return Receipt(id=told[0], state=told[1])
    return Receipt(Place(*told))


class Overtaken(Exception):  # noqa: N818  it is a finding, not an error
    """The topic does not reach back to where the records could stand."""


async def find(log: Log, key: str, since: Mapping[str, Offsets], count: int) -> Sequence[Receipt] | None:
    """The receipts of the records that were written for a key; None where they are not all there. Raises Overtaken."""
    found: dict[int, Place] = {}
    for topic, at in since.items():
        starts, ends = await log.starts(topic, named=at), await log.ends(topic)
        if any(starts[number] > at.get(number, 0) for number in starts if number in at or not at):
            raise Overtaken
        place = {number: at.get(number, starts.get(number, 0)) for number in ends}
        if all(place[number] >= end for number, end in ends.items()):
            continue
        async with log.reading(topic, place) as reader:
            while len(found) < count and any(reader.at[number] < end for number, end in ends.items()):
                for record in await reader.read():
                    name, _, number = (record.headers.get(MARK) or "").partition(".")
                    if name == key:
                        found.setdefault(int(number), Place(topic, record.partition, record.offset, record.timestamp))
    return [Receipt(found[number]) for number in range(count)] if len(found) == count else None
