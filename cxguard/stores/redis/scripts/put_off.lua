-- Look later at records that are due to be forgotten and cannot be read: they must not stand before others.
-- Touches {prefix:N}: p:SPACE:VERSION of each version, o: of each record. One without a record is in the list no more.
-- ARGV: now, seconds, space, newest version that is understood, ids.
local changed = 0
for version = 1, tonumber(ARGV[4]) do
  local key = HOME .. 'p:' .. ARGV[3] .. ':' .. version
  for n = 5, #ARGV do
    if redis.call('EXISTS', HOME .. 'o:' .. ARGV[n]) == 0 then
      changed = changed + redis.call('ZREM', key, ARGV[n])
    else
      changed = changed + redis.call('ZADD', key, 'XX', 'CH', exact(NOW + tonumber(ARGV[2])), ARGV[n])
    end
  end
end
return changed
