"""Event-based invalidation: the database says what changed, whoever changed it.

    python -m fastcache triggers users --key-template 'user:{id}' --outbox --install URL

    from fastcache.invalidation import PostgresOutbox

    outbox = PostgresOutbox(URL, tiered).start()

Triggers announce the changes of tables when they are committed. Without an L2, `fastcache.backplane.PostgresBackplane`
hears them; with one, they are kept in an outbox, which one process at a time drains into the tiers.
"""

from __future__ import annotations

from fastcache import _lazy
from fastcache.invalidation.triggers import Announcement, drop_triggers, make_triggers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastcache.invalidation.outbox import OutboxStats as OutboxStats
    from fastcache.invalidation.outbox import PostgresOutbox as PostgresOutbox

__all__ = ["Announcement", "OutboxStats", "PostgresOutbox", "drop_triggers", "make_triggers"]

_LATER = {  # they need psycopg
    "OutboxStats": "fastcache.invalidation.outbox",
    "PostgresOutbox": "fastcache.invalidation.outbox",
}

__getattr__, __dir__ = _lazy.names(globals(), _LATER)
