"""N empty calls on two slots of Ray, or K calls one after another. Prints one JSON object per figure."""

import json
import sys
import time

import ray

N, K = 10_000, 500

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@ray.remote
def noop():
    return None


# The workers exist before the clock starts.
ray.get([noop.remote() for _ in range(500)])
if sys.argv[1] == "throughput":
    begin = time.perf_counter()
    ray.get([noop.remote() for _ in range(N)])
    rate = N / (time.perf_counter() - begin)
    print(json.dumps({"what": "tasks", "value": rate, "unit": "tasks/s"}))
else:
    times = []
    for _ in range(K):
        begin = time.perf_counter()
        ray.get(noop.remote())
        times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    print(json.dumps({"what": "p50", "value": times[K // 2], "unit": "ms"}))
    print(json.dumps({"what": "p99", "value": times[K * 99 // 100], "unit": "ms"}))
ray.shutdown()
