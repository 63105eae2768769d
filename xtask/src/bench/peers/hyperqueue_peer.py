"""N times /bin/true on two slots of HyperQueue, server and worker in this process. Prints one JSON object per figure.

Its Python client looks for the end of a job once a second, so that a job of many tasks is measured and the latency of a
single one cannot be.
"""

import json
import sys
import time

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

N, WARM = 10_000, 50


def run(client, count):
    job = Job()
    for _ in range(count):
        job.program(["/bin/true"])
    begin = time.perf_counter()
    client.wait_for_jobs([client.submit(job)])
    return time.perf_counter() - begin


if sys.argv[1] == "throughput":
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client = cluster.client()
        run(client, WARM)
        print(json.dumps({"what": "tasks", "value": N / run(client, N), "unit": "tasks/s"}))
else:
    print("hyperqueue: its client polls once a second; the latency of one task is not measured", file=sys.stderr)
