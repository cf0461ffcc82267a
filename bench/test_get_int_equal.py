"""And an equal int that is another object?"""

from questions import ask

test_get_int_equal = ask("get_int_equal")
