"""Entries within a number and within bytes."""

from __future__ import annotations

from service.bounded_table import BoundedTable


class TestBoundedTable:
    def test_the_least_recently_used_make_room(self) -> None:
        table: BoundedTable[int] = BoundedTable(most_entries=3, most_bytes=100)
        for number, key in enumerate("abc"):
            table.put(key, number, 10)
        table.get("a")
        table.peek("b")
        table.put("d", 3, 10)
        assert [table.peek(key) for key in "abcd"] == [0, None, 2, 3]
        table.put("e", 4, 85)
        assert [table.peek(key) for key in "acde"] == [None, None, 3, 4]
        assert (len(table), table.bytes) == (2, 95)

    def test_an_entry_that_is_put_again_or_dropped_counts_once(self) -> None:
        table: BoundedTable[int] = BoundedTable(most_entries=3, most_bytes=100)
        table.put("a", 1, 10)
        table.put("a", 2, 20)
        assert (len(table), table.bytes) == (1, 20)
        table.drop("a")
        table.drop("a")
        assert (len(table), table.bytes) == (0, 0)
