"""How long is the worst call when a million entries expire at once?"""

from questions import ask_child

test_worst_expiry = ask_child("worst_expiry")
