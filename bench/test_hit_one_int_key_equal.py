"""And when the key is an equal int, but another object?"""

from questions import ask

test_hit_one_int_key_equal = ask("call_int_equal")
