"""How long does awaiting a cached async function take when it hits?"""

from questions import ask

test_await_hit = ask("await_int")
