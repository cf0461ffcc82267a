"""And an equal str that is another object?"""

from questions import ask

test_get_str_equal = ask("get_str_equal")
