"""How long does it take to give a key another value?"""

from questions import ask

test_overwrite = ask("overwrite")
