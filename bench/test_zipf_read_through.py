"""How fast is a read-through over skewed keys?"""

from questions import ask

test_zipf_read_through = ask("zipf")
