"""How soon does another process see a change, usually?"""

from questions import ask_seen

test_change_seen = ask_seen("seen_p50")
