"""When are 1,000 tasks awake that waited for one cold key?"""

from questions import ask_child

test_cold_key_1000_tasks = ask_child("cold_tasks")
