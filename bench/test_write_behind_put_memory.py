"""How long until a write-behind put is acknowledged that is kept in memory?"""

from questions import ask_tier

test_write_behind_put_memory = ask_tier("put_memory")
