-- Lets wrk send prepared requests in turn: `wrk -s cycle.lua ... -- FILE`. FILE has each request's length on a line,
-- then its bytes. What came of it is printed as one line of JSON.
local requests, at = {}, 0

function init(arguments)
    local file = assert(io.open(arguments[1], "rb"))
    for size in function() return file:read("*l") end do
        requests[#requests + 1] = assert(file:read(tonumber(size)))
    end
    file:close()
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests": %d, "seconds": %f, "failed": %d, "p50_ms": %f, "p99_ms": %f}',
        summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
