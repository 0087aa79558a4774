-- One decision over all keys, by the server's time, in one step.
--
-- ARGV: the time in microseconds, or nothing for the server's own; the mode; then for each key
--   kind, cost, capacity, size, block, is on trial, unused, paid at, changed ago
-- with size the nanoseconds of one token of a bucket, or the microseconds of a window or lease, and
-- the microseconds since the limit became what it is, or nothing if it has always been so.
-- Modes: acquire and peek, of keys that differ; force (pay whatever it is), settle (give `unused`
-- back), renew (both: a permit begins its lease again), one key after the other.
-- Answer: the time, then for each key
--   0 fits, 1 wait or 2 never; nanoseconds to wait; spent before; nanoseconds until it is full
-- A state is a packed list { kind, size, blocked until, ... } and always has a time to live.
local WIDTH, MARGIN_MS = 9, 60000
local now, mode = tonumber(ARGV[1]), ARGV[2]
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- How each kind counts; made when it is asked for, since a script begins anew each time.
local makers, made = {}, {}
local function how_of(kind)
  if not made[kind] and makers[kind] then made[kind] = makers[kind]() end
  return made[kind]
end

-- Token bucket (GCRA): nanoseconds owed, when, and of how many tokens.
makers.bucket = function()
  return {
    fresh = function(limit) return { 'bucket', limit.size, 0, 0, now, limit.capacity } end,
    is_of = function(limit, state)
      return state[1] == 'bucket' and state[2] == limit.size and state[6] == limit.capacity
    end,
    -- The fraction of a token stays too. No more is gone than there can be; but of a limit that nobody
    -- changed here, others may hold more, so it is theirs to say.
    resize = function(limit, state)
      if state[1] ~= 'bucket' then return nil end
      local part = state[4] % state[2]
      local whole = (state[4] - part) / state[2]
      state[4] = whole * limit.size + math.floor(part * limit.size / state[2])
      if limit.ago then state[4] = math.min(state[4], limit.capacity * limit.size) end
      state[2], state[6] = limit.size, limit.capacity
      return state
    end,
    drain = function(limit, state)
      state[4] = math.max(0, state[4] - math.max(0, now - state[5]) * 1000)
      state[5] = math.max(state[5], now)
    end,
    spent = function(limit, state) return math.ceil(state[4] / limit.size) end,
    wait = function(limit, state)
      return state[4] + limit.cost * limit.size - limit.capacity * limit.size
    end,
    pay = function(limit, state, cost) state[4] = state[4] + cost * limit.size end,
    refund = function(limit, state)
      local gone = math.max(0, now - limit.paid_at) * 1000
      state[4] = math.max(0, state[4] - math.max(0, limit.unused * limit.size - gone))
    end,
    reset = function(limit, state) return state[4] end,
  }
end

-- Aligned windows: index, count of this one, count of the one before.
local function window(counts_before)
  local gone = function(limit) return now % limit.size end
  local spent = function(limit, state)
    local before = counts_before and state[6] * (limit.size - gone(limit)) / limit.size or 0
    return state[5] + math.ceil(before)
  end
  -- How far a window must have gone until `count` of the one before weighs at most `room`.
  local fades_to = function(limit, count, room)
    if count <= room then return 0 end
    return limit.size - math.floor(room * limit.size / count)
  end
  return {
    fresh = function(limit)
      return { limit.kind, limit.size, 0, math.floor(now / limit.size), 0, 0 }
    end,
    is_of = function(limit, state) return state[1] == limit.kind and state[2] == limit.size end,
    resize = function(limit, state)
      if state[2] ~= limit.size or state[1] ~= 'fixed' and state[1] ~= 'sliding' then return nil end
      state[1] = limit.kind
      return state
    end,
    drain = function(limit, state)
      local passed = math.floor(now / limit.size) - state[4]
      if passed == 1 then state[5], state[6] = 0, state[5] end
      if passed > 1 then state[5], state[6] = 0, 0 end
      if passed > 0 then state[4] = state[4] + passed end
    end,
    spent = spent,
    wait = function(limit, state)
      if spent(limit, state) + limit.cost <= limit.capacity then return 0 end
      if not counts_before then return (limit.size - gone(limit)) * 1000 end
      local room = limit.capacity - limit.cost
      if state[5] <= room then
        return math.max(1, fades_to(limit, state[6], room - state[5]) - gone(limit)) * 1000
      end
      return (limit.size - gone(limit) + fades_to(limit, state[5], room)) * 1000
    end,
    pay = function(limit, state, cost) state[5] = state[5] + cost end,
    refund = function(limit, state)
      local age = state[4] - math.floor(limit.paid_at / limit.size)
      if age == 0 then state[5] = math.max(0, state[5] - limit.unused) end
      if age == 1 then state[6] = math.max(0, state[6] - limit.unused) end
    end,
    reset = function(limit, state)
      local ends = (limit.size - gone(limit)) * 1000
      if state[5] > 0 then return counts_before and ends + limit.size * 1000 or ends end
      return counts_before and state[6] > 0 and ends or 0
    end,
  }
end
makers.fixed = function() return window(false) end
makers.sliding = function() return window(true) end

-- Every admission with its time; also permits, which end with their lease at the latest.
local function log(permit_wait)
  local sum = function(state)
    local count = 0
    for at = 5, #state, 2 do count = count + state[at] end
    return count
  end
  return {
    fresh = function(limit) return { limit.kind, limit.size, 0 } end,
    is_of = function(limit, state) return state[1] == limit.kind and state[2] == limit.size end,
    resize = function(limit, state)
      if state[1] ~= limit.kind then return nil end
      state[2] = limit.size
      return state
    end,
    drain = function(limit, state)
      local kept = { state[1], state[2], state[3] }
      for at = 4, #state, 2 do
        if now < state[at] + limit.size and state[at + 1] > 0 then
          kept[#kept + 1] = state[at]
          kept[#kept + 1] = state[at + 1]
        end
      end
      return kept
    end,
    spent = function(limit, state) return sum(state) end,
    wait = function(limit, state)
      local count = sum(state)
      if count + limit.cost <= limit.capacity then return 0 end
      if permit_wait then return permit_wait end
      for at = 4, #state, 2 do
        count = count - state[at + 1]
        if count + limit.cost <= limit.capacity then
          return (state[at] + limit.size - now) * 1000
        end
      end
      return limit.size * 1000
    end,
    pay = function(limit, state, cost)
      local last = #state
      if last > 3 and state[last - 1] == now then
        state[last] = state[last] + cost
      else
        state[last + 1], state[last + 2] = now, cost
      end
    end,
    refund = function(limit, state)
      for at = 4, #state, 2 do
        if state[at] == limit.paid_at then
          state[at + 1] = math.max(0, state[at + 1] - limit.unused)
        end
      end
    end,
    reset = function(limit, state)
      if permit_wait or #state < 5 then return 0 end
      return (state[#state - 1] + limit.size - now) * 1000
    end,
  }
end
makers.log = function() return log(nil) end
makers.held = function() return log(1000000000) end

-- Makes a state that was counted by another quota or algorithm one of this limit: what was spent when
-- the limit changed stays spent, and the time before and after counts each at its own rate.
local function carry(limit, state)
  local old, today = how_of(state[1]), now
  if not old then return limit.how.fresh(limit) end
  now = now - (limit.ago or 0)
  local was = { kind = state[1], size = state[2] }
  state = old.drain(was, state) or state
  local carried = limit.how.resize(limit, state)
  if not carried then
    carried = limit.how.fresh(limit)
    carried[3] = state[3]
    local spent = math.min(old.spent(was, state), limit.capacity)
    if spent > 0 then limit.how.pay(limit, carried, spent) end
  end
  now = today
  return carried
end

local function read(i)
  local at = 2 + (i - 1) * WIDTH
  local limit = {
    key = KEYS[i], kind = ARGV[at + 1], cost = tonumber(ARGV[at + 2]),
    capacity = tonumber(ARGV[at + 3]), size = tonumber(ARGV[at + 4]),
    block = tonumber(ARGV[at + 5]), is_shadow = ARGV[at + 6] == '1',
    unused = tonumber(ARGV[at + 7]), paid_at = tonumber(ARGV[at + 8]),
    ago = tonumber(ARGV[at + 9]),
  }
  local how = how_of(limit.kind)
  limit.how = how
  local packed = redis.call('GET', limit.key)
  local state = packed and cmsgpack.unpack(packed) or how.fresh(limit)
  if not how.is_of(limit, state) then state = carry(limit, state) end
  limit.state = how.drain(limit, state) or state
  return limit
end

local function write(limit)
  local state, how = limit.state, limit.how
  local lasts = math.max(how.reset(limit, state) / 1000, state[3] - now, 0)
  if limit.kind == 'held' then lasts = limit.size end
  local ttl = math.ceil(lasts / 1000) + MARGIN_MS
  redis.call('SET', limit.key, cmsgpack.pack(state), 'PX', string.format('%.0f', ttl))
end

local function judge(limit)
  local how, state = limit.how, limit.state
  limit.spent, limit.reset = how.spent(limit, state), how.reset(limit, state)
  limit.code, limit.wait = 0, 0
  if limit.cost > limit.capacity then
    limit.code = 2
  elseif state[3] > now and not limit.is_shadow then
    limit.code, limit.wait = 1, (state[3] - now) * 1000
  else
    local wait = how.wait(limit, state)
    if wait > 0 then
      limit.code, limit.wait = 1, math.max(wait, limit.block * 1000)
      limit.is_met = not limit.is_shadow
    end
  end
end

local answer = { now }
local function tell(limit)
  local at = #answer
  answer[at + 1], answer[at + 2] = limit.code, math.ceil(limit.wait)
  answer[at + 3], answer[at + 4] = limit.spent, math.ceil(limit.reset)
end

if mode ~= 'acquire' and mode ~= 'peek' then
  for i = 1, #KEYS do
    local limit = read(i)
    judge(limit)
    if mode ~= 'force' then limit.how.refund(limit, limit.state) end
    if mode ~= 'settle' then limit.how.pay(limit, limit.state, limit.cost) end
    write(limit)
    tell(limit)
  end
  return answer
end

local limits, is_admitted = {}, true
for i = 1, #KEYS do
  local limit = read(i)
  judge(limit)
  limits[i] = limit
  if limit.code > 0 and not limit.is_shadow then is_admitted = false end
end

for _, limit in ipairs(limits) do
  if is_admitted and limit.code == 0 then
    limit.how.pay(limit, limit.state, limit.cost)
    limit.reset = limit.how.reset(limit, limit.state)
    if mode == 'acquire' then write(limit) end
  elseif not is_admitted and limit.is_met and limit.block > 0 and mode == 'acquire' then
    limit.state[3] = now + limit.block
    write(limit)
  end
  tell(limit)
end
return answer
