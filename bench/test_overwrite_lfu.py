"""What does lfu cost an overwrite?"""

from questions import ask

test_overwrite_lfu = ask("overwrite_lfu")
