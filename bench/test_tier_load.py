"""How long does a TieredCache take for a key that no tier has?"""

from questions import ask_tier

test_tier_load = ask_tier("tier_load")
