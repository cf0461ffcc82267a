"""What does a ttl cost a hit?"""

from questions import ask

test_get_ttl = ask("get_ttl")
