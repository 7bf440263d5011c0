"""Admitted requests per second against the configured ones."""

from stack import say

import world

RATES = (1, 10, 100, 1_000, 10_000)


def run(here):
    tenants = {f"r{rate}": {"knn": world.per_second(rate)} for rate in RATES}
    outrigger = here.outrigger("rates", tenants)
    here.client.processes = {"outrigger": outrigger.pid}
    requests = here.small(outrigger)
    rows = []
    for rate in RATES:
        # Time enough for two hundred admissions, where that is bearable; the first ones spend the burst.
        seconds = 3.0 if here.quick else min(60.0, max(10.0, 200 / rate))
        offered = max(20, 3 * rate)
        options = ["--rate", str(offered), *world.header(f"r{rate}")]
        result = here.client.offered(outrigger.server, requests, 16, seconds, warm_up=2.0, options=options)
        row = {"configured": rate, "offered": offered, "admitted": result["successes_per_s"], "refused": result["errors_per_s"], "client_cores": result["client_cores"]}
        rows.append(row)
        say(f"configured {rate}/s, admitted {row['admitted'] or 0:.2f}/s")
    here.servers.stop(outrigger)
    return {"rows": rows}
