"""The script that leases tokens of one key to one gateway: a token bucket and a day's count, inside Redis.

All gateways see one bucket and one day, by Redis' own clock. The bucket is that of token_bucket.py.
"""

LEASE = """
-- KEYS[1]: a hash (tokens, at, day, spent).
-- ARGV: per_second, burst, per_day (0: no limit), asked, debt. Debt is what was let through while Redis was
-- down; below 0 it is what a gateway gives back.
-- Reply: how many are granted; if none, the milliseconds until one may be, and which limit it was.
local per_second, burst, per_day = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local grant, debt = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local today = math.floor(now / 86400)
local had = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'day', 'spent')
local tokens, spent = burst, 0
local wait, limit = 0, ''

if per_second > 0 then
  if had[1] then
    tokens = math.min(burst, tonumber(had[1]) + math.max(0, now - tonumber(had[2])) * per_second)
  end
  tokens = math.max(-burst, math.min(burst, tokens - debt))
  if tokens < 1 then
    wait, limit = (1 - tokens) / per_second, 'rate'
  end
  grant = math.min(grant, math.max(0, math.floor(tokens)))
end

if per_day > 0 then
  if had[3] and tonumber(had[3]) == today then
    spent = tonumber(had[4])
  end
  spent = math.max(0, spent + debt)
  if spent >= per_day then
    wait, limit = (today + 1) * 86400 - now, 'quota'
  end
  grant = math.min(grant, math.max(0, per_day - spent))
end

tokens, spent = tokens - grant, spent + grant
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', tostring(now), 'day', today, 'spent', spent)
redis.call('EXPIRE', KEYS[1], 172800)
return {grant, math.ceil(wait * 1000), limit}
"""
