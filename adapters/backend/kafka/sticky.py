"""Which member of a group gets which partition: as few as can be change hands."""

from __future__ import annotations

from typing import ClassVar

from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.structs import TopicPartition


def sticky() -> type[StickyPartitionAssignor]:
    """The library's sticky assignment, for one member.

    The library asks a class what a member has had, so that the members of one process would tell of each other's partitions
    (aiokafka issue 1175); hence a class for each.
    """

    class Sticky(StickyPartitionAssignor):  # type: ignore[misc]  # the library has no types
        """What one member has had."""

        member_assignment: ClassVar[list[TopicPartition] | None] = None

        @classmethod
        def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
            """Remember it."""
            cls.member_assignment = assignment.partitions()

    return Sticky
