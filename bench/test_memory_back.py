"""When is the memory back after a million entries have expired?"""

from questions import ask_child

test_memory_back = ask_child("memory_back")
