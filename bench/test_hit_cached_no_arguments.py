"""How long does `cached(ttl=...)` take to hit without arguments?"""

from questions import ask

test_hit_cached_no_arguments = ask("cached_none")
