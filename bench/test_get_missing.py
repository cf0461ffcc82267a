"""How long does Cache.get take to find nothing?"""

from questions import ask

test_get_missing = ask("get_miss")
