"""N empty calls on two slots of Dask, or K calls one after another. Prints one JSON object per figure."""

import json
import logging
import sys
import time

from distributed import Client, LocalCluster, wait

N, K = 10_000, 500


def noop(_number):
    return None


if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.ERROR
    )
    client = Client(cluster)
    # The workers exist before the clock starts.
    wait(client.map(noop, range(500), pure=False))
    if sys.argv[1] == "throughput":
        begin = time.perf_counter()
        wait(client.map(noop, range(N), pure=False))
        rate = N / (time.perf_counter() - begin)
        print(json.dumps({"what": "tasks", "value": rate, "unit": "tasks/s"}))
    else:
        times = []
        for number in range(K):
            begin = time.perf_counter()
            client.submit(noop, number, pure=False).result()
            times.append((time.perf_counter() - begin) * 1e3)
        times.sort()
        print(json.dumps({"what": "p50", "value": times[K // 2], "unit": "ms"}))
        print(json.dumps({"what": "p99", "value": times[K * 99 // 100], "unit": "ms"}))
    client.close()
    cluster.close()
