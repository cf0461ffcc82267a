"""How long does a collection take with a million ints in the cache?"""

from questions import ask_child

test_collect_atomic = ask_child("gc_atomic")
