"""How much memory does clear() leave behind?"""

from questions import ask_child

test_left_after_clear = ask_child("left_after_clear")
