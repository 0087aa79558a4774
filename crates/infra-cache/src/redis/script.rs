//! The scripts of the tier. Each begins with the same beginning, which finds out what life it is.

use redis::Script;

/// What every script begins with: the root, and what is current.
///
/// `KEYS[1]` is the root, `ARGV[1]` the run of the server that the caller is connected to, `ARGV[2]` the
/// prefix, `ARGV[3]` the capacity or 0. A root of another run may come from a copy that lacks the last
/// changes, so it is not believed.
const BEGIN: &str = r"#!lua flags=allow-oom
local root, prefix, capacity = KEYS[1], ARGV[2], tonumber(ARGV[3])
local function text(number) return string.format('%.0f', number) end
local life, tick, clear
local function begin(last)
  local time = redis.call('TIME')
  life = math.max(time[1] * 1000000 + time[2], last + 1)
  tick, clear = 0, 0
  redis.call('DEL', root)
  redis.call('HSET', root, 'run', ARGV[1], 'life', text(life), 'tick', '0', 'clear', '0', 'tags', '0')
end
local known = redis.call('HMGET', root, 'run', 'life', 'tick', 'clear', 'tags')
if known[1] == ARGV[1] then
  life, tick, clear = tonumber(known[2]), tonumber(known[3]), tonumber(known[4])
else
  begin(tonumber(known[2] or '0'))
end
local function advance()
  tick = tick + 1
  redis.call('HSET', root, 'tick', text(tick))
  return tick
end
local function changed(field) return tonumber(redis.call('HGET', root, field) or '0') end
local function valueKey(key) return prefix .. 'v:' .. key end
local function tagKey(tag) return prefix .. 'i:' .. tag end
local order = prefix .. 'o'
local function tagsOf(packed)
  if packed and packed ~= '' then return cmsgpack.unpack(packed) end
  return {}
end
-- Returns body, tags and remaining milliseconds of a value that is current, leaving out one tag's removal.
local function current(key, except)
  local at = valueKey(key)
  local value = redis.call('HMGET', at, 'l', 'c', 't', 'b')
  if not value[1] or tonumber(value[1]) ~= life then return nil end
  local ticket, tags = tonumber(value[2]), tagsOf(value[3])
  if ticket < clear then return nil end
  for _, tag in ipairs(tags) do
    if tag ~= except and ticket < changed('t:' .. tag) then return nil end
  end
  local left = redis.call('PTTL', at)
  if left == 0 or left == -2 then return nil end
  return value[4], tags, left
end
local function drop(key)
  local at = valueKey(key)
  for _, tag in ipairs(tagsOf(redis.call('HGET', at, 't'))) do redis.call('SREM', tagKey(tag), key) end
  if capacity > 0 then redis.call('ZREM', order, key) end
  redis.call('UNLINK', at)
end
local function store(key, ticket, ttl, tags, body)
  drop(key)
  if ttl == 0 then return end
  local at = valueKey(key)
  local packed = ''
  if #tags > 0 then packed = cmsgpack.pack(tags) end
  redis.call('HSET', at, 'l', text(life), 'c', text(ticket), 't', packed, 'b', body)
  if ttl > 0 then redis.call('PEXPIRE', at, ttl) end
  for _, tag in ipairs(tags) do
    redis.call('SADD', tagKey(tag), key)
    -- Each that comes looks after two, so that those whose time is over do not pile up.
    for _, other in ipairs(redis.call('SRANDMEMBER', tagKey(tag), 2)) do
      if redis.call('EXISTS', valueKey(other)) == 0 then redis.call('SREM', tagKey(tag), other) end
    end
  end
  if capacity > 0 then
    redis.call('ZADD', order, text(advance()), key)
    while redis.call('ZCARD', order) > capacity do
      drop(redis.call('ZPOPMIN', order)[1])
    end
  end
end
";

/// `ARGV[4..]`: keys.
const LOOK: &str = r"
local answer = { text(life), text(tick) }
local found = {}
for i = 4, #ARGV do
  local body, tags, left = current(ARGV[i])
  if body then found[#found + 1] = { body, left, tags } else found[#found + 1] = false end
end
answer[3] = found
return answer
";

/// `ARGV[4]`: a ticket's life, or an empty text for a put; `ARGV[5]`: its tick; then for each value its key,
/// slot, milliseconds (-1 for no end), number of tags, tags and body.
const STORE: &str = r"
local isFill = ARGV[4] ~= ''
local ticket = tonumber(ARGV[5])
local isBefore = isFill and (tonumber(ARGV[4]) ~= life or ticket < clear)
local stored, i = 0, 6
while i <= #ARGV do
  local key, slot, ttl, count = ARGV[i], 's:' .. ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local tags = {}
  for t = 1, count do tags[t] = ARGV[i + 3 + t] end
  local body = ARGV[i + 4 + count]
  i = i + 5 + count
  if not isFill then
    redis.call('HSET', root, slot, text(advance()))
    store(key, tick, ttl, tags, body)
    stored = stored + 1
  elseif not isBefore and changed(slot) <= ticket then
    local isRemoved = false
    for _, tag in ipairs(tags) do isRemoved = isRemoved or ticket < changed('t:' .. tag) end
    if not isRemoved and ttl ~= 0 then
      store(key, ticket, ttl, tags, body)
      stored = stored + 1
    end
  end
end
return stored
";

/// `ARGV[4..]`: keys and slots in turn.
const REMOVE: &str = r"
local removed = 0
for i = 4, #ARGV, 2 do
  redis.call('HSET', root, 's:' .. ARGV[i + 1], text(advance()))
  if current(ARGV[i]) then removed = removed + 1 end
  drop(ARGV[i])
end
return removed
";

/// `ARGV[4]`: a tag.
const TAGGED: &str = r"
local keys = {}
for _, key in ipairs(redis.call('SMEMBERS', tagKey(ARGV[4]))) do
  local body, tags = current(key)
  local carries = false
  for _, tag in ipairs(tags or {}) do carries = carries or tag == ARGV[4] end
  if carries then keys[#keys + 1] = key else redis.call('SREM', tagKey(ARGV[4]), key) end
end
return keys
";

/// `ARGV[4]`: a tag; `ARGV[5]`: how many removed tags are remembered.
const REMOVE_TAG: &str = r"
local tag, removed = ARGV[4], 0
local keys = redis.call('SMEMBERS', tagKey(tag))
if redis.call('HSET', root, 't:' .. tag, text(advance())) == 1
  and redis.call('HINCRBY', root, 'tags', 1) > tonumber(ARGV[5]) then
  -- Too many to be remembered one by one: the cache begins anew, which forgets nothing wrong.
  for _, key in ipairs(keys) do
    if current(key, tag) then removed = removed + 1 end
  end
  begin(life)
  return removed
end
for _, key in ipairs(keys) do
  local body, tags = current(key, tag)
  local carries = false
  for _, own in ipairs(tags or {}) do carries = carries or own == tag end
  if carries then removed = removed + 1 end
  if carries or not body then drop(key) end
end
redis.call('UNLINK', tagKey(tag))
return removed
";

/// `ARGV[4]`: a cursor; `ARGV[5]`: the pattern of what keys of values are scanned.
const SCAN: &str = r"
local page = redis.call('SCAN', ARGV[4], 'MATCH', ARGV[5], 'COUNT', 500)
local keys, first = {}, #prefix + 3
for _, at in ipairs(page[2]) do
  local key = string.sub(at, first)
  if current(key) then keys[#keys + 1] = key end
end
return { page[1], keys }
";

/// As [`SCAN`], but drops what is not current, and returns how many that were.
const PURGE: &str = r"
local page = redis.call('SCAN', ARGV[4], 'MATCH', ARGV[5], 'COUNT', 500)
local dropped, first = 0, #prefix + 3
for _, at in ipairs(page[2]) do
  local key = string.sub(at, first)
  if not current(key) then
    drop(key)
    dropped = dropped + 1
  end
end
return { page[1], dropped }
";

const CLEAR: &str = r"
redis.call('HSET', root, 'clear', text(advance()))
if capacity > 0 then redis.call('UNLINK', order) end
return 1
";

/// `ARGV[4]`: a key; `ARGV[5]`: its slot; `ARGV[6]`: what is added; `ARGV[7]`: milliseconds for a new one.
const INCREMENT: &str = r"
local key, at = ARGV[4], valueKey(ARGV[4])
local body = current(key)
if body and not string.match(body, '^-?%d+$') then
  return redis.error_reply('NOTINT the value is no integer')
end
redis.call('HSET', root, 's:' .. ARGV[5], text(advance()))
if not body then store(key, tick, tonumber(ARGV[7]), {}, '0') end
local sum = redis.pcall('HINCRBY', at, 'b', ARGV[6])
if type(sum) == 'table' and sum.err then
  return redis.error_reply('NOTINT ' .. sum.err)
end
redis.call('HSET', at, 'c', text(tick))
return redis.call('HGET', at, 'b')
";

/// The scripts, with their digests.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) look: Script,
    pub(super) store: Script,
    pub(super) remove: Script,
    pub(super) tagged: Script,
    pub(super) remove_tag: Script,
    pub(super) scan: Script,
    pub(super) purge: Script,
    pub(super) clear: Script,
    pub(super) increment: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |body: &str| Script::new(&format!("{BEGIN}{body}"));
        Self {
            look: script(LOOK),
            store: script(STORE),
            remove: script(REMOVE),
            tagged: script(TAGGED),
            remove_tag: script(REMOVE_TAG),
            scan: script(SCAN),
            purge: script(PURGE),
            clear: script(CLEAR),
            increment: script(INCREMENT),
        }
    }
}
