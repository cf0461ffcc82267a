"""Loading: what `cached` does on a miss, and how its results are kept fresh.

`rules` says what is stored and for how long, `loader` what a miss does, step by step, `threads` and
`tasks` carry these steps out for `def` and `async def`, `batch` gathers single misses into one load,
and `decorate` is the decorator itself.
"""
