"""When are 50 threads awake that waited for one cold key?"""

from questions import ask_child

test_cold_key_50_threads = ask_child("cold_50")
