-- Where records stand in some lists, in one order across all of them.
-- Touches {prefix:N}: the lists named. Writes nothing.
-- ARGV: now, direction ('up', 'down'), after (a place, '' : from the beginning), limit, prefix of the members, lists.
local after, limit, prefix = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local low, high = '[' .. prefix, '(' .. prefix .. '\255' -- no time begins with this byte
if prefix == '' then low, high = '-', '+' end
local places = {}
for n = 6, #ARGV do
  local found
  if ARGV[2] == 'up' then
    if after ~= '' then low = '(' .. prefix .. after end
    found = redis.call('ZRANGEBYLEX', HOME .. ARGV[n], low, high, 'LIMIT', 0, limit)
  else
    if after ~= '' then high = '(' .. prefix .. after end
    found = redis.call('ZREVRANGEBYLEX', HOME .. ARGV[n], high, low, 'LIMIT', 0, limit)
  end
  for _, member in ipairs(found) do places[#places + 1] = string.sub(member, #prefix + 1) end
end
return places
