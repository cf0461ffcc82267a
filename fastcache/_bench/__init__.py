"""The microbenchmarks behind ``python -m fastcache bench``.

Layout (each module knows only those above it):

- ``inputs``, ``worker``, ``heavy``: stand-alone, standard library only; they also run as scripts in
  other interpreters and under valgrind, so they import nothing of this package.
- ``model``: what a row, a program, a target and a result are.
- ``subjects``: who is measured, and how each of them is spelled.
- ``rows``: the hot-path questions; ``sizes``: size, pauses, import time and cold keys.
- ``tier_ground``, ``tier_reads``, ``tier_writes``: who is measured over a server or a file; ``seen``: how soon another
  process sees a change; ``tiers``: the rows of all that, and how they are measured.
- ``stats`` (numpy), ``runner`` (interleaved rounds), ``instructions`` (callgrind), ``conditions``.
- ``table``, ``plots``, ``report``, ``progress``: what a person sees; ``cli``: the command.
"""
