"""What does lfu cost a new key in a full cache?"""

from questions import ask

test_set_and_evict_lfu = ask("set_evict_lfu")
