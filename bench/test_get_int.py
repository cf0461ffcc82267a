"""How long does Cache.get take to find an int?"""

from questions import ask

test_get_int = ask("get_int")
