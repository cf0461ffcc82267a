"""How long does f(str) take when it hits?"""

from questions import ask

test_hit_one_str_key = ask("call_str")
