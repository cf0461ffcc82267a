"""How long until a tiered cache has a value in L1 and in a write-behind that survives the process?"""

from questions import ask_tier

test_write_behind_set = ask_tier("set_process")
