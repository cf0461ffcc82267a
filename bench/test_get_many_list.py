"""What does one call for a thousand keys save?"""

from questions import ask

test_get_many_list = ask("get_many_list")
