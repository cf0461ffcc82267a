"""What does a ttl cost a decorated function that hits?"""

from questions import ask

test_hit_with_ttl = ask("call_int_ttl")
