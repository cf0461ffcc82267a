"""What does fifo cost a new key in a full cache?"""

from questions import ask

test_set_and_evict_fifo = ask("set_evict_fifo")
