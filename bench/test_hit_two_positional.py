"""How long does f(a, b) take when it hits?"""

from questions import ask

test_hit_two_positional = ask("call_two")
