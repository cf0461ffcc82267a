"""Whether a store keeps the promises of fastcache.stores.protocol: tests to be run against any of them.

    from fastcache.testing import StoreConformance

    class TestMyStore(StoreConformance):
        def make_store(self):
            return MyStore("127.0.0.1:4711")

pytest finds the tests by their names; no plugin is needed. Each runs twice, through `Store.run` and
through `Store.arun`. Each uses a name space of its own, so the server need not be empty, and may be in use.
"""

from __future__ import annotations

import sys

if "pytest" in sys.modules:
    # before these are imported: so that a failing assertion shows its values, as in tests of one's own
    sys.modules["pytest"].register_assert_rewrite(
        *(f"fastcache.testing._conform{part}" for part in ("", "_values", "_leases", "_coherence"))
    )

from fastcache.testing._conform_coherence import Coherence
from fastcache.testing._conform_leases import Leases
from fastcache.testing._conform_values import Values


class StoreConformance(Values, Leases, Coherence):
    """The tests. A subclass gives:

    make_store(self): a new store object; all that one test makes must lead to the same server or file.
    wipe(self): optional; forgets all that the server holds, counters included, as a restart without a disk does.
    short: the shortest ttl in seconds that the store tells from a longer one (0.25).
    rounding: seconds by which a value may outlive its ttl (0.02).
    keeps_holds: whether a hold outlasts the invalidation of another (True).
    large: bytes of a value that the store has to take (900,000).

    What a store has not (a backplane, shared generations) is not tested.
    """
