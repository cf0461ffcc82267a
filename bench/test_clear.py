"""How long does it take to clear a million entries?"""

from questions import ask_child

test_clear = ask_child("clear")
