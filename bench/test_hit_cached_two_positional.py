"""How long does `cached(ttl=...)` take to hit with two arguments?"""

from questions import ask

test_hit_cached_two_positional = ask("cached_two")
