"""How long is the worst pause of a single set while filling?"""

from questions import ask_child

test_worst_set = ask_child("worst_set")
