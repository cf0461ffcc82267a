"""How long does a TieredCache take to find a value of 300 bytes in Redis?"""

from questions import ask_tier

test_tier_l2_hit = ask_tier("tier_l2")
