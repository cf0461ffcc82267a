"""How long does a miss take that evicts, around a trivial function?"""

from questions import ask

test_miss_and_evict = ask("call_miss")
