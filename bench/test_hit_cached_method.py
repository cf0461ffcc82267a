"""How long does a method with `cached(ttl=...)` take when it hits?"""

from questions import ask

test_hit_cached_method = ask("cached_method")
