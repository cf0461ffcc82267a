"""Two tiers: L1 in this process, over an L2 that all processes share."""

from fastcache.tiered.events import Tag
from fastcache.tiered.faces import AsyncTieredCache, TieredCache
from fastcache.tiered.stats import L2Stats, TieredStats

__all__ = ["AsyncTieredCache", "L2Stats", "Tag", "TieredCache", "TieredStats"]
