"""And an equal pair that is another object?"""

from questions import ask

test_get_tuple_equal = ask("get_tuple_equal")
