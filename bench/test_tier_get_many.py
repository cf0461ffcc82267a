"""How long does a bulk read of 100 keys take that are all in Redis, for each?"""

from questions import ask_tier

test_tier_get_many = ask_tier("tier_many")
