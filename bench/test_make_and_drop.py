"""How long does it take to make an empty cache and drop it?"""

from questions import ask

test_make_and_drop = ask("make_drop")
