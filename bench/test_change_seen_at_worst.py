"""How soon does another process see a change, once in a thousand?"""

from questions import ask_seen

test_change_seen_at_worst = ask_seen("seen_p999")
