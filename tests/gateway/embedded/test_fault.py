"""What can go wrong with a file."""

from __future__ import annotations

from gateway.embedded.fault import InDoubtError, StoreError


def test_a_fault_passes_unless_it_says_otherwise():
    assert not StoreError("full").fatal
    assert StoreError("broken", fatal=True).fatal


def test_what_is_in_doubt_is_a_fault_of_the_file():
    assert issubclass(InDoubtError, StoreError)
