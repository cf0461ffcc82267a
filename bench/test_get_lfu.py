"""What does lfu cost a hit?"""

from questions import ask

test_get_lfu = ask("get_lfu")
