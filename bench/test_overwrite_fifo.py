"""What does fifo cost an overwrite?"""

from questions import ask

test_overwrite_fifo = ask("overwrite_fifo")
