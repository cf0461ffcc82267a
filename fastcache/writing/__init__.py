"""Writing: write-through, and a write-behind queue that loses nothing it acknowledged.

    from fastcache.writing import SQLiteWriter, WriteBehind

Each name is imported, with the client library that it needs, when it is first asked for. What the parts ask of
each other is said in fastcache.writing.behind (tiers), .writers (writers of one's own) and .ops.
"""

from __future__ import annotations

from fastcache import _lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastcache.writing.behind import WriteBehind as WriteBehind
    from fastcache.writing.errors import Closed as Closed
    from fastcache.writing.errors import JournalError as JournalError
    from fastcache.writing.errors import QueueFull as QueueFull
    from fastcache.writing.errors import Refused as Refused
    from fastcache.writing.errors import WritingError as WritingError
    from fastcache.writing.ops import Op as Op
    from fastcache.writing.postgres import PostgresLoader as PostgresLoader
    from fastcache.writing.postgres import PostgresWriter as PostgresWriter
    from fastcache.writing.sqlite import SQLiteLoader as SQLiteLoader
    from fastcache.writing.sqlite import SQLiteWriter as SQLiteWriter
    from fastcache.writing.stats import DeadLetter as DeadLetter
    from fastcache.writing.stats import WritingStats as WritingStats
    from fastcache.writing.stream import RedisStreamWriter as RedisStreamWriter
    from fastcache.writing.through import WriteThrough as WriteThrough
    from fastcache.writing.writers import Writer as Writer

__all__ = [
    "Closed",
    "DeadLetter",
    "JournalError",
    "Op",
    "PostgresLoader",
    "PostgresWriter",
    "QueueFull",
    "RedisStreamWriter",
    "Refused",
    "SQLiteLoader",
    "SQLiteWriter",
    "WriteBehind",
    "WriteThrough",
    "Writer",
    "WritingError",
    "WritingStats",
]

_LATER = {
    "Closed": "fastcache.writing.errors",
    "DeadLetter": "fastcache.writing.stats",
    "JournalError": "fastcache.writing.errors",
    "Op": "fastcache.writing.ops",
    "PostgresLoader": "fastcache.writing.postgres",
    "PostgresWriter": "fastcache.writing.postgres",
    "QueueFull": "fastcache.writing.errors",
    "RedisStreamWriter": "fastcache.writing.stream",
    "Refused": "fastcache.writing.errors",
    "SQLiteLoader": "fastcache.writing.sqlite",
    "SQLiteWriter": "fastcache.writing.sqlite",
    "WriteBehind": "fastcache.writing.behind",
    "WriteThrough": "fastcache.writing.through",
    "Writer": "fastcache.writing.writers",
    "WritingError": "fastcache.writing.errors",
    "WritingStats": "fastcache.writing.stats",
}

__getattr__, __dir__ = _lazy.names(globals(), _LATER)
