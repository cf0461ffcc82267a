"""How long does awaiting a cached async method take when it hits?"""

from questions import ask

test_await_hit_method = ask("await_method")
