"""The scripts that run in the server, each one step for everybody else.

All keys of a call lie in the slot of one bucket:

    fc:{NAMESPACE:1f}:NAME          a value: 8 bytes, when it dies on the server's clock in
                                    milliseconds (0: never), then the data; or a plain decimal counter
    fc:{NAMESPACE:1f}:NAME:lease    "=" + token: somebody loads; "!" + token: writes are under way;
                                    "!!" + token: the same, but another has invalidated: no `put` any more
    fc:{NAMESPACE:1f}:#             the bucket's counter, INCARNATION:SEQUENCE; the name of its channel too
    fc:{NAMESPACE:101}:#            that of events
    fc:{NAMESPACE:100}:#            that of tags; its sequence is that of the last invalidation of any tag
    fc:{NAMESPACE:100}:TAG          the sequence of this tag's last invalidation
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from fastcache.stores.redis.way import pack


class Script(NamedTuple):
    """sha: by which it is called. load: the command that makes the server know it."""

    sha: str
    load: bytes

    def call(self, keys: list[bytes], arguments: list[bytes | int]) -> bytes:
        return pack("EVALSHA", self.sha, len(keys), *keys, *arguments)


def _script(text: str) -> Script:
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(sha, pack("SCRIPT", "LOAD", text))


# Advance a counter, and publish it with a message. fresh: an incarnation for it if it is lost.
_TELL = """
local function tell(counter, fresh, body)
  local inc, seq = string.match(redis.call('GET', counter) or '', '^(%x+):(%d+)$')
  if not inc then inc, seq = fresh, 0 end
  local now = string.format('%s:%.0f', inc, seq + 1)
  redis.call('SET', counter, now)
  redis.call('SPUBLISH', counter, now .. '\\n' .. body)
end
"""

# Store a value for ttl milliseconds ('0': for ever); a plain decimal number as it is, to be counted on.
_STORE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function store(key, ttl, data)
  if #data > 20 or not string.find(data, '^%-?%d+$') then
    data = struct.pack('>I8', ttl == '0' and 0 or now + ttl) .. data
  end
  if ttl == '0' then
    redis.call('SET', key, data)
  else
    redis.call('SET', key, data, 'PX', ttl)
  end
end
"""

# KEYS: value, lease, ... ARGV: token, ttl, data, ...
FILL: Final = _script(
    _STORE
    + """
local done = {}
for i = 1, #KEYS, 2 do
  local a = (i - 1) / 2 * 3
  local yes = redis.call('GET', KEYS[i + 1]) == '=' .. ARGV[a + 1]
  if yes then
    store(KEYS[i], ARGV[a + 2], ARGV[a + 3])
    redis.call('DEL', KEYS[i + 1])
  end
  done[#done + 1] = yes and 1 or 0
end
return done
"""
)

# KEYS: lease, ... ARGV: token
GIVE_UP: Final = _script(
    """
for _, lease in ipairs(KEYS) do
  if redis.call('GET', lease) == '=' .. ARGV[1] then redis.call('DEL', lease) end
end
return 0
"""
)

# KEYS: value, lease, counter, ... ARGV: fresh, token of the hold that ends, body, ...
# Deletions first: after a write that was allowed a script may go on in a server whose memory is full.
INVALIDATE: Final = _script(
    _TELL
    + """
for i = 1, #KEYS, 3 do
  redis.call('DEL', KEYS[i])
  local lease = redis.call('GET', KEYS[i + 1])
  if lease then
    local held = string.sub(lease, 1, 1) == '!'
    if not held or lease == '!' .. ARGV[2] or lease == '!!' .. ARGV[2] then
      redis.call('DEL', KEYS[i + 1])
    elseif string.sub(lease, 2, 2) ~= '!' then
      redis.call('SET', KEYS[i + 1], '!' .. lease, 'KEEPTTL')
    end
  end
end
for i = 3, #KEYS, 3 do tell(KEYS[i], ARGV[1], ARGV[i / 3 + 2]) end
return 0
"""
)

# KEYS: value, lease, counter, ... ARGV: fresh, token, ttl, body, ...
HOLD: Final = _script(
    _TELL
    + """
local longest = {}
for i = 1, #KEYS, 3 do
  redis.call('DEL', KEYS[i])
  local was = redis.call('GET', KEYS[i + 1])
  local left = was and string.sub(was, 1, 1) == '!' and redis.call('PTTL', KEYS[i + 1]) or 0
  longest[i] = string.format('%.0f', math.max(left, tonumber(ARGV[3])))
  redis.call('DEL', KEYS[i + 1])
end
for i = 3, #KEYS, 3 do
  redis.call('SET', KEYS[i - 1], '!' .. ARGV[2], 'PX', longest[i - 2])
  tell(KEYS[i], ARGV[1], ARGV[i / 3 + 3])
end
return 0
"""
)

# KEYS: value, lease, counter, ... ARGV: fresh, then token ('': whatever is there), ttl, data, body, ...
PUT: Final = _script(
    _STORE
    + _TELL
    + """
local done = {}
for i = 3, #KEYS, 3 do
  local a = i / 3 * 4 - 3
  local token = ARGV[a + 1]
  local yes = token == '' or redis.call('GET', KEYS[i - 1]) == '!' .. token
  if yes then
    store(KEYS[i - 2], ARGV[a + 2], ARGV[a + 3])
    redis.call('DEL', KEYS[i - 1])
    tell(KEYS[i], ARGV[1], ARGV[a + 4])
  end
  done[#done + 1] = yes and 1 or 0
end
return done
"""
)

# KEYS: value, lease, counter. ARGV: fresh, delta, start, ttl, body. INCRBY's own error if it is no number.
INCR: Final = _script(
    _TELL
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('INCRBY', KEYS[1], ARGV[2])
elseif ARGV[4] == '0' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
redis.call('DEL', KEYS[2])
tell(KEYS[3], ARGV[1], ARGV[5])
return redis.call('GET', KEYS[1])
"""
)

# KEYS: value, counter. ARGV: fresh, stamp, ttl, body
TOUCH: Final = _script(
    _TELL
    + """
local key, stamp, ttl = KEYS[1], ARGV[2], ARGV[3]
local plain = redis.call('GETRANGE', key, 0, 0) ~= string.char(0)
local skip = plain and 0 or 8
if redis.call('EXISTS', key) == 0 then return 0 end
if redis.call('GETRANGE', key, skip, skip + #stamp - 1) ~= stamp and #stamp > 0 then return 0 end
local dies = 0
if ttl == '0' then
  redis.call('PERSIST', key)
else
  local t = redis.call('TIME')
  dies = t[1] * 1000 + math.floor(t[2] / 1000) + ttl
  redis.call('PEXPIRE', key, ttl)
end
if not plain then redis.call('SETRANGE', key, 0, struct.pack('>I8', dies)) end
tell(KEYS[2], ARGV[1], ARGV[4])
return 1
"""
)

# The counter of tags: its sequence is never below the time in microseconds at which it was made.
_SEQUENCE = """
local function micros()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
local function sequence(counter, fresh)
  local inc, seq = string.match(redis.call('GET', counter) or '', '^(%x+):(%d+)$')
  if inc then return inc, tonumber(seq), true end
  return fresh, micros(), false
end
"""

# KEYS: counter, tag, ... ARGV: fresh, ttl. The counter, then the tags' sequences. Where memory is full nothing is
# kept, and the answer is as good: it only grows.
TAGS_READ: Final = _script(
    _SEQUENCE
    + """
local inc, seq, there = sequence(KEYS[1], ARGV[1])
seq = string.format('%.0f', seq)
local counter = inc .. ':' .. seq
if not there and redis.pcall('SET', KEYS[1], counter).err then counter = '0:0' end
local found = {counter}
for i = 2, #KEYS do
  local was = redis.call('GET', KEYS[i])
  if not was then
    was = seq
    redis.pcall('SET', KEYS[i], seq, 'PX', ARGV[2])
  end
  found[i] = was
end
return found
"""
)

# KEYS: counter, tag, ... ARGV: fresh, ttl, body
INVALIDATE_TAGS: Final = _script(
    _SEQUENCE
    + """
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
local inc, seq = sequence(KEYS[1], ARGV[1])
seq = string.format('%.0f', math.max(seq + 1, micros()))
local now = inc .. ':' .. seq
redis.call('SET', KEYS[1], now)
for i = 2, #KEYS do redis.call('SET', KEYS[i], seq, 'PX', ARGV[2]) end
redis.call('SPUBLISH', KEYS[1], now .. '\\n' .. ARGV[3])
return seq
"""
)

# KEYS: counter. ARGV: fresh, body
PUBLISH: Final = _script(
    _TELL
    + """
redis.call('DEL', KEYS[1] .. ':')  -- not there; for a server whose memory is full, see INVALIDATE
tell(KEYS[1], ARGV[1], ARGV[2])
return 0
"""
)
