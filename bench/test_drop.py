"""How long does it take to drop a cache of a million entries?"""

from questions import ask_child

test_drop = ask_child("drop")
