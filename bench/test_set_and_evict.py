"""How long does it take to store a new key in a full cache?"""

from questions import ask

test_set_and_evict = ask("set_evict")
