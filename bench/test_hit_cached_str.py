"""How long does a function with `cached(ttl=...)` take that hits with one str?"""

from questions import ask

test_hit_cached_str = ask("cached_str")
