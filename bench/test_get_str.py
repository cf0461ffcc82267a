"""How long does Cache.get take to find a str?"""

from questions import ask

test_get_str = ask("get_str")
