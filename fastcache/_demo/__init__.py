"""The demonstration behind ``python -m fastcache demo tiers``.

Layout (each module knows only those above it):

- ``measure``: figures on their way from the workers to the table. ``board``: what the workers tell each other past
  all caches, to see who served what when. ``database``: the source. ``server``: a Redis of its own.
- ``worker``: one process of the demonstrated service; also the script that runs it.
- ``table``: what a person sees; ``tiers``: the run; ``cli``: the command.
"""
