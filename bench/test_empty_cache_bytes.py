"""How many bytes does an empty cache take?"""

from questions import ask_child

test_empty_cache_bytes = ask_child("empty_bytes")
