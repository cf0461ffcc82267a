"""How long does a function with `cached(ttl=...)` take that hits with one int?"""

from questions import ask

test_hit_cached_int = ask("cached_int")
