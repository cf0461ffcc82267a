"""How long does it take to fill a cache with a million entries?"""

from questions import ask_child

test_fill = ask_child("fill")
