"""How long does f(a, k=b) take when it hits?"""

from questions import ask

test_hit_keyword = ask("call_keyword")
