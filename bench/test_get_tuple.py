"""How long does Cache.get take to find a pair of ints?"""

from questions import ask

test_get_tuple = ask("get_tuple")
