"""What is written, in as few statements as can be: each releases the interpreter's lock once, not once a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.embedded.row import Row

# A statement for each size, so that SQLite's binding keeps them prepared.
SIZES = (256, 64, 16, 4, 1)


def runs(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Numbers as ranges, first and last: what is dropped mostly stands side by side."""
    first = last = -1
    for number in sorted(ids):
        if number == last + 1 and first >= 0:
            last = number
            continue
        if first >= 0:
            yield first, last
        first = last = number
    if first >= 0:
        yield first, last


def chunks(rows: Sequence[Row]) -> Iterator[tuple[str, list[object]]]:
    """Statements that insert rows, with what each is given."""
    at = 0
    for size in SIZES:
        while len(rows) - at >= size:
            yield _INSERT[size], [value for row in rows[at : at + size] for value in row]
            at += size


_INSERT = {
    size: f"INSERT INTO record (id, timestamp, upto, key, body, headers) VALUES {', '.join(['(?, ?, ?, ?, ?, ?)'] * size)}"  # noqa: S608
    for size in SIZES
}
