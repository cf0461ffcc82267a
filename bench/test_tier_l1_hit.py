"""How long does a TieredCache take to find a value in L1?"""

from questions import ask_tier

test_tier_l1_hit = ask_tier("tier_l1")
