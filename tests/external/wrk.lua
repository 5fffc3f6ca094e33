-- A load of a fixed rate out of wrk, which by itself has closed loops only: a thread for each
-- connection, and each thread sends at instants that are fixed beforehand, so that all together send at
-- even distances. Arguments: requests per second, or 0 for the closed loop; connections.
-- Prints what it saw as a line of JSON on standard error; processor time is per request.
local ffi = require("ffi")
ffi.cdef [[
    typedef struct { long seconds; long nanoseconds; } moment;
    int clock_gettime(int clock, moment *now);
    int clock_nanosleep(int clock, int flags, const moment *until, moment *rest);
]]
local MONOTONIC, PROCESS_CPU, ABSOLUTE = 1, 2, 1
local threads, epoch = {}, nil

local function read(clock)
    local moment = ffi.new("moment")
    ffi.C.clock_gettime(clock, moment)
    return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

local function sleep_until(instant)
    local seconds = math.floor(instant)
    local moment = ffi.new("moment", seconds, (instant - seconds) * 1e9)
    ffi.C.clock_nanosleep(MONOTONIC, ABSOLUTE, moment, nil)
end

-- Called for each thread, before any of them runs.
function setup(thread)
    epoch = epoch or read(MONOTONIC)
    thread:set("place", #threads)
    thread:set("base", epoch)
    table.insert(threads, thread)
end

-- Called in each thread.
function init(args)
    local rate, connections = tonumber(args[1]), tonumber(args[2])
    if rate == 0 then return end
    local text, interval = wrk.format(), connections / rate
    local due
    sent = 0
    -- Nothing else waits in this thread, and wrk takes the time of sending when this has returned.
    function request()
        if due then
            due = due + interval
        else
            local slots = math.ceil((read(MONOTONIC) - base) / interval)
            due = base + place / rate + slots * interval
        end
        sleep_until(due)
        last = read(MONOTONIC)
        first = first or last
        sent = sent + 1
        return text
    end
end

-- From the first to the last request of each thread: wrk stops them at different moments.
local function rate(summary)
    if not threads[1]:get("first") then return summary.requests / summary.duration * 1e6 end
    local sum = 0
    for _, thread in ipairs(threads) do
        sum = sum + (thread:get("sent") - 1) / (thread:get("last") - thread:get("first"))
    end
    return sum
end

function done(summary, latency)
    local errors = summary.errors
    io.stderr:write(string.format(
        '{"rate":%.3f,"p50_ms":%.3f,"p99_ms":%.3f,"cpu_us":%.3f,"errors":%d}\n',
        rate(summary), latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        read(PROCESS_CPU) / summary.requests * 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
