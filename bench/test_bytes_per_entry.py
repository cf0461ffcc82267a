"""How many bytes does an entry take?"""

from questions import ask_child

test_bytes_per_entry = ask_child("bytes_lru")
