"""And when the keys are an int64 array?"""

from questions import ask

test_get_many_array = ask("get_many_array")
