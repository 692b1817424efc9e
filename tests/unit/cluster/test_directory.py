"""Who is where, and who is no more."""

from __future__ import annotations

from rayflow.cluster.fabric.directory import DirectoryTable
from rayflow.messages import Directory, Endpoint


def test_a_newer_directory_replaces_an_older_one_and_never_the_other_way_round() -> None:
    table = DirectoryTable()
    table.update(Directory(2, [Endpoint("router/0", "unix:/new", 2)]))
    table.update(Directory(1, [Endpoint("router/0", "unix:/old", 1)], ["unix:/new"]))
    assert table.entry("router/0") == Endpoint("router/0", "unix:/new", 2)
    assert (table.version, table.retired) == (2, frozenset())


def test_addresses_are_found_by_prefix_and_kept_up_to_date() -> None:
    table = DirectoryTable()
    changes: list[list[str]] = []
    table.on_change(lambda: changes.append(table.addresses("agent/a/")))
    table.put(Endpoint("agent/a/1", "unix:/1"))
    table.put(Endpoint("agent/a/0", "unix:/0"))
    table.put(Endpoint("agent/b/0", "unix:/b"))
    table.remove("agent/a/1")
    assert changes == [["agent/a/1"], ["agent/a/0", "agent/a/1"], ["agent/a/0", "agent/a/1"], ["agent/a/0"]]
    assert table.endpoint("agent/a/1") is None


def test_an_endpoint_is_retired_only_while_nothing_names_it() -> None:
    table = DirectoryTable()
    table.update(Directory(1, [Endpoint("a/0", "unix:/a")], ["unix:/a", "unix:/b", "unix:/c"]))
    assert table.retired == {"unix:/b", "unix:/c"}
    table.put(Endpoint("b/0", "unix:/b"))
    assert table.retired == {"unix:/c"}
    table.update(Directory(2, []))
    assert table.retired == frozenset()
