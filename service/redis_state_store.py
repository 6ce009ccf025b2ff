"""Shoppers' recent events as Redis holds them: a script that appends, a command that reads, nothing remembered here."""

from __future__ import annotations

from collections.abc import Iterator

from service.domain import FeedbackEvent
from service.redis_link import RedisLink, RedisRefusedError, Script, Word, redis_key
from service.state_codec import ID_BYTES, MOST_EVENTS, MOST_SEEN, event_digest, pack, state_key, unpack

EVENTS_A_SCRIPT = 250
SHOPPERS_A_SCRIPT = 100
"""Most of one script: about a millisecond of Redis, for which everyone else waits, and 3 KiB of one notice."""
MOST_NOTICES = 10_000
"""Changes that the stream of notices holds."""

APPEND = Script("""
-- KEYS: notices, count, then two a shopper: events (sorted set: time -> packed), digests of the ids seen (string)
-- ARGV: ttl in ms, events kept, bytes of digests kept, bytes of a digest, notices kept,
--       then for each shopper the number of events, then for each event: digest of the id, time, packed
local ttl, most_events, most_seen, width = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function own(key, kind)  -- a key of another type was not written here
  local there = redis.call('TYPE', key).ok
  if there ~= kind and there ~= 'none' then redis.call('DEL', key) end
end

local function holds(seen, id)
  local at = string.find(seen, id, 1, true)
  while at and (at - 1) % width ~= 0 do at = string.find(seen, id, at + 1, true) end
  return at
end

local reply, changed, arg = {}, {}, 6
for shopper = 3, #KEYS, 2 do
  local events, ids = KEYS[shopper], KEYS[shopper + 1]
  own(events, 'zset')
  own(ids, 'string')
  local seen, new = redis.call('GET', ids) or '', 0
  if #seen % width ~= 0 then seen = '' end
  local last = arg + 3 * ARGV[arg]
  for at = arg + 1, last, 3 do
    local fresh = 0
    if not holds(seen, ARGV[at]) then
      seen = string.sub(seen .. ARGV[at], -most_seen)
      fresh = redis.call('ZADD', events, ARGV[at + 1], ARGV[at + 2])
    end
    reply[#reply + 1] = fresh
    new = new + fresh
  end
  arg = last + 1
  if new > 0 then
    redis.call('ZREMRANGEBYRANK', events, 0, -(most_events + 1))
    redis.call('PEXPIRE', events, ttl)
    redis.call('SET', ids, seen, 'PX', ttl)
    changed[#changed + 1] = string.match(events, '[^:]*$')
  end
end
if #changed > 0 then
  own(KEYS[1], 'stream')
  own(KEYS[2], 'string')
  if not tonumber(redis.call('GET', KEYS[2]) or 0) then redis.call('DEL', KEYS[2]) end
  local number = redis.call('INCR', KEYS[2])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*', 'number', number, 'who', table.concat(changed, ' '))
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('PEXPIRE', KEYS[2], ttl)
end
return reply
""")


class RedisStateStore:
    """One tenant's shoppers in Redis. Its methods raise RedisDownError and RedisRefusedError."""

    def __init__(self, link: RedisLink, *, tenant: str, ttl_seconds: float) -> None:
        """Redis forgets a shopper `ttl_seconds` after their last event."""
        self._link = link
        self._tenant = tenant
        self._ttl_ms = max(1, round(ttl_seconds * 1000))
        self.notices = redis_key(tenant, "state-changes")
        """Key of the stream that tells of every change: `number`, counting up, and `who`, state keys."""
        self._count = redis_key(tenant, "state-changes", "count")

    async def read(self, user_id: str) -> list[bytes]:
        """The packed events of a shopper, oldest first. What is none of theirs is passed over."""
        name = redis_key(self._tenant, "state", state_key(user_id))
        try:
            packed = await self._link.echoed("ZRANGE", name, -MOST_EVENTS, -1)
        except RedisRefusedError as refused:
            if refused.wrong_type:
                return []
            raise
        return [data for data, _ in unpack(user_id, packed)]

    async def append(self, part: dict[str, list[FeedbackEvent]]) -> list[FeedbackEvent]:
        """Append one of `parts`; those of its events that were new."""
        keys = [self.notices, self._count]
        args: list[Word] = [self._ttl_ms, MOST_EVENTS, MOST_SEEN * ID_BYTES, ID_BYTES, MOST_NOTICES]
        for user_id, events in part.items():
            key = state_key(user_id)
            keys += [redis_key(self._tenant, "state", key), redis_key(self._tenant, "seen", key)]
            args.append(len(events))
            for event in events:
                args += [event_digest(event.event_id), max(0.0, event.timestamp), pack(event)]
        fresh = await self._link.run(APPEND, keys, args)
        sent = [event for events in part.values() for event in events]
        return [event for event, is_fresh in zip(sent, fresh, strict=True) if is_fresh]


def parts(groups: dict[str, list[FeedbackEvent]]) -> Iterator[dict[str, list[FeedbackEvent]]]:
    """Shoppers' events (by user id) in pieces that one script takes."""
    part: dict[str, list[FeedbackEvent]] = {}
    size = 0
    for user_id, events in groups.items():
        for start in range(0, len(events), EVENTS_A_SCRIPT):
            piece = events[start : start + EVENTS_A_SCRIPT]
            if size + len(piece) > EVENTS_A_SCRIPT or len(part) == SHOPPERS_A_SCRIPT:
                yield part
                part, size = {}, 0
            part[user_id] = piece
            size += len(piece)
    if part:
        yield part
