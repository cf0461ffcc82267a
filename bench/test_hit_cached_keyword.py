"""How long does `cached(ttl=...)` take to hit with a keyword argument?"""

from questions import ask

test_hit_cached_keyword = ask("cached_keyword")
