"""How long does a real function take over real words?"""

from questions import ask

test_stemmed_words = ask("words")
