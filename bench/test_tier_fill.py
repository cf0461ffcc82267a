"""How long does it take to store a loaded value in Redis if nothing was invalidated meanwhile?"""

from questions import ask_tier

test_tier_fill = ask_tier("tier_fill")
