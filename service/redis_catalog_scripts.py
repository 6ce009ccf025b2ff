"""What the live catalogue has Redis do by itself: read records, tell what changed, keep what nobody overtook."""

from __future__ import annotations

from service.redis_link import Script

_FIELDS = """
local function fields(item)  -- id, body, the numbers and times in one text: a reply of few parts is read sooner
  local found = redis.pcall('HMGET', ARGV[1] .. item, 'id', 'body', 'created', 'updated', 'content', 'created_at',
    'updated_at')
  if found.err then found = {} end  -- not written here
  for at = 1, 7 do found[at] = found[at] or '' end
  return {found[1], found[2], table.concat(found, ' ', 3)}
end
"""
READ = Script(
    _FIELDS
    + """
-- ARGV: prefix of the items' keys, then items
local records = {}
for at = 2, #ARGV do records[#records + 1] = fields(ARGV[at]) end
return records
"""
)
SINCE = Script(
    _FIELDS
    + """
-- KEYS: order (sorted set: number of the last change -> item). ARGV: prefix of the items' keys, number, most items
local records = {}
local changed = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for at = 1, #changed, 2 do
  records[#records + 1] = fields(changed[at])
end
return {changed[#changed], records}
"""
)
TOUCH = Script("for at = 1, #KEYS do redis.call('EXPIRE', KEYS[at], ARGV[1]) end")
WRITE = Script("""
-- KEYS: order, sequence, bytes of all pictures, then two an item: record (hash), picture (string)
-- ARGV: ttl in s, most items, most bytes of pictures, time in ms, time in s, then for each item:
--       id, key, number of the change it was read at (0: none), body, whether its content is new,
--       whether its picture is said anything of, picture, whether it has no record that can be read
local ttl, most_items, most_bytes, width = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), 8

local function own(key, kind)  -- a key of another type was not written here
  local there = redis.call('TYPE', key).ok
  if there ~= kind and there ~= 'none' then redis.call('DEL', key) end
end

own(KEYS[1], 'zset')
own(KEYS[2], 'string')
own(KEYS[3], 'string')
local items, bytes = redis.call('ZCARD', KEYS[1]), tonumber(redis.call('GET', KEYS[3]) or 0) or 0
local items_before, bytes_before, overtaken = items, bytes, {}

for at = 1, (#KEYS - 3) / 2 do
  local arg = 6 + width * (at - 1)
  local record, picture = KEYS[2 * at + 2], KEYS[2 * at + 3]
  own(record, 'hash')
  own(picture, 'string')
  local updated = redis.call('HGET', record, 'updated') or '0'
  overtaken[at] = updated ~= ARGV[arg + 2]
  if not overtaken[at] then
    if updated == '0' then items = items + 1 end
    if ARGV[arg + 5] == '1' then bytes = bytes + #ARGV[arg + 6] - redis.call('STRLEN', picture) end
  end
end
if items > math.max(items_before, most_items) or bytes > math.max(bytes_before, most_bytes) then
  return {'full', items_before, bytes_before, items, bytes}
end

-- Numbers begin at the time, in milliseconds: above all those of a Redis that was here before.
if not tonumber(redis.call('GET', KEYS[2]) or '') then redis.call('SET', KEYS[2], ARGV[4]) end
local reply = {'kept', redis.call('GET', KEYS[2])}
for at = 1, (#KEYS - 3) / 2 do
  local arg = 6 + width * (at - 1)
  local record, picture = KEYS[2 * at + 2], KEYS[2 * at + 3]
  if overtaken[at] then
    reply[at + 2] = 0
  else
    local number = redis.call('INCR', KEYS[2])
    reply[2], reply[at + 2] = number, number
    if ARGV[arg + 7] == '1' then redis.call('DEL', record) end
    redis.call('HSET', record, 'id', ARGV[arg], 'body', ARGV[arg + 3], 'updated', number, 'updated_at', ARGV[5])
    redis.call('HSETNX', record, 'created', number)
    redis.call('HSETNX', record, 'created_at', ARGV[5])
    if ARGV[arg + 4] == '1' then redis.call('HSET', record, 'content', number)
    else redis.call('HSETNX', record, 'content', 0) end
    if ARGV[arg + 5] == '1' then redis.call('DEL', picture) end
    if ARGV[arg + 5] == '1' and ARGV[arg + 6] ~= '' then redis.call('SET', picture, ARGV[arg + 6]) end
    redis.call('EXPIRE', record, ttl)
    redis.call('EXPIRE', picture, ttl)
    redis.call('ZADD', KEYS[1], number, ARGV[arg + 1])
  end
end
redis.call('SET', KEYS[3], bytes)
for at = 1, 3 do redis.call('EXPIRE', KEYS[at], ttl) end
return reply
""")
