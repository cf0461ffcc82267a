"""How many bytes does an entry with a ttl take?"""

from questions import ask_child

test_bytes_per_entry_ttl = ask_child("bytes_ttl")
