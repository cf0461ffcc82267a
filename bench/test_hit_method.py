"""How long does a cached method take when it hits?"""

from questions import ask

test_hit_method = ask("call_method")
