"""How long does f() take when it hits?"""

from questions import ask

test_hit_no_arguments = ask("call_none")
