"""How long does a TieredCache take to find a value of 300 bytes in SQLiteStore?"""

from questions import ask_tier

test_tier_file_hit = ask_tier("tier_file")
