"""And when the key is an equal str, but another object?"""

from questions import ask

test_hit_one_str_key_equal = ask("call_str_equal")
