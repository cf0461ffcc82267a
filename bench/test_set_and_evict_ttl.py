"""What does a ttl cost a new key in a full cache?"""

from questions import ask

test_set_and_evict_ttl = ask("set_evict_ttl")
