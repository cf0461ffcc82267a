"""What is said through NOTIFY, and how a change of a row becomes keys of a cache.

A payload is a JSON object, of less than 8,000 bytes:

    {"table": "users", "keys": ["user:1", 42, ["a", 7], {"uuid": "..."}]}     what the triggers say
    {"table": "users", "all": true}         many rows, TRUNCATE, or a key that is too long to be named
    {"outbox": "fastcache.outbox"}          there is something in that table
    {"ns": "shop", "by": origin, "keys": [base64, ...], "buckets": [31, ...], "version": number}
                                            one cache to the others; these two as well:
    {"ns": "shop", "by": origin, "tags": base64, "seq": number}
    {"ns": "shop", "by": origin, "event": base64}
    {"nonce": "..."}                        a listener that finds out whether it hears

Of a key, a string is a str, a number an int, a list a tuple, and {"uuid": text} a UUID. Whoever wants to, a program in
any language, may say the first two by pg_notify; "table" may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any, NamedTuple
from uuid import UUID

from fastcache._keys import encode

#: A row's key -> the cache's: None: as it is; a template such as "user:{}"; or a function, which may
#: return a list of keys.
Rule = None | str | Callable[[Any], Any]


class Change(NamedTuple):
    """What changed in a table. keys: None: any of its rows."""

    table: str | None
    keys: list[Any] | None


def key_of(item: Any) -> Any:
    """The key that JSON stands for. ValueError: for none."""
    if isinstance(item, (str, int)) and not isinstance(item, bool):
        return item
    if item is None:
        return None
    if isinstance(item, list):
        return tuple([key_of(part) for part in item])
    if isinstance(item, dict) and len(item) == 1 and isinstance(item.get("uuid"), str):
        return UUID(item["uuid"])
    raise ValueError(f"no key: {item!r}")


def keys_of(text: str | None) -> list[Any] | None:
    """Those of a JSON array; None: any. ValueError: it is none."""
    if text is None:
        return None
    items = json.loads(text)
    if not isinstance(items, list):
        raise ValueError("an array of keys was expected")
    return [key_of(item) for item in items]


def change_of(said: Mapping[str, Any]) -> Change:
    """The change that a payload tells of. ValueError: of none."""
    table, items = said.get("table"), said.get("keys")
    if table is not None and not isinstance(table, str):
        raise ValueError("the name of a table was expected")
    if said.get("all") is True:
        return Change(table, None)
    if not isinstance(items, list):
        raise ValueError("an array of keys was expected")
    return Change(table, [key_of(item) for item in items])


class Rules:
    """Which tables concern a cache, and what its keys are.

    tables: None: all of them, whose keys are as the triggers say; names: these alone; a mapping of names to
    rules: these, by their rules. tags: {table: tag, or a list of tags}: what has changed if any row may have;
    of other tables everything.
    """

    def __init__(
        self,
        tables: Mapping[str, Rule] | Iterable[str] | None,
        tags: Mapping[str, Any] | None,
    ) -> None:
        if isinstance(tables, (str, bytes)):
            raise TypeError(f"tables must be names, or a mapping of names to rules, not {tables!r}")
        self._rules: dict[str, Rule] | None = None
        if tables is not None:
            given = tables if isinstance(tables, Mapping) else dict.fromkeys(tables)
            for table, rule in given.items():
                _check(table, rule)
            self._rules = dict(given)
        if tags is not None and not isinstance(tags, Mapping):
            raise TypeError(f"tags must be a mapping of tables to tags, not {tags!r}")
        self._tags: dict[str, list[Any]] = {}
        for table, tag in (tags or {}).items():
            self._tags[table] = tag if isinstance(tag, list) else [tag]
            try:
                for each in self._tags[table]:
                    encode(each)
            except (TypeError, ValueError) as error:
                raise type(error)(f"tags of {table!r}: {error}") from None

    def concerns(self, table: str | None) -> bool:
        return self._rules is None or table is None or table in self._rules

    def keys(self, change: Change) -> list[Any] | None:
        """The keys of the cache; None: any. Raises what a rule raises, and TypeError or ValueError for what can be
        no key."""
        if change.keys is None:
            return None
        rule = None if self._rules is None or change.table is None else self._rules[change.table]
        if rule is None:
            found = change.keys
        elif isinstance(rule, str):
            found = [
                rule.format(*key) if isinstance(key, tuple) else rule.format(key)
                for key in change.keys
            ]
        else:
            found = []
            for key in change.keys:
                made = rule(key)
                found += made if isinstance(made, list) else [made]
        for key in found:
            encode(key)
        return found

    def tags(self, table: str | None) -> list[Any]:
        """What stands for any row of the table; none: everything."""
        return [] if table is None else self._tags.get(table, [])


def _check(table: object, rule: object) -> None:
    if not isinstance(table, str):
        raise TypeError(f"tables must be named by str, not {table!r}")
    if rule is None or callable(rule):
        return
    if not isinstance(rule, str):
        raise TypeError(
            f"tables: the rule of {table!r} must be None, a template or a function, not {rule!r}"
        )
    fields = [name for _, name, _, _ in Formatter().parse(rule) if name is not None]
    if not fields or any(name and not name.isdigit() for name in fields):
        raise ValueError(
            f"tables: the template of {table!r} must have {{}} where the key goes, not {rule!r}"
        )
