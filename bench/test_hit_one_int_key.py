"""How long does f(int) take when it hits?"""

from questions import ask

test_hit_one_int_key = ask("call_int")
