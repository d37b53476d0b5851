-- Replace a small value by its revision.
-- Touches {prefix:N}: v:KEY (hash: r revision, v value).
-- ARGV: now, key, revision, value.
local key = HOME .. 'v:' .. ARGV[2]
if (redis.call('HGET', key, 'r') or '0') ~= ARGV[3] then return 0 end
redis.call('HSET', key, 'v', ARGV[4], 'r', exact(tonumber(ARGV[3]) + 1))
return 1
