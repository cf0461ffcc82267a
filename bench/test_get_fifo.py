"""What does fifo cost a hit?"""

from questions import ask

test_get_fifo = ask("get_fifo")
