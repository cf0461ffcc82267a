"""And a thousand?"""

from questions import ask_child

test_cold_key_1000_threads = ask_child("cold_1000")
