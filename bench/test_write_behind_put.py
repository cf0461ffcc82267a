"""How long until a write-behind put is acknowledged that survives the process?"""

from questions import ask_tier

test_write_behind_put = ask_tier("put_process")
