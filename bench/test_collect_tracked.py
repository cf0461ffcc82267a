"""How long does a collection take with a million lists in the cache?"""

from questions import ask_child

test_collect_tracked = ask_child("gc_tracked")
