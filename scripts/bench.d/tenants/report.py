"""A record as a page: each bar with what was measured."""

import passing
import records


def page(record):
    parts = record["parts"]
    lines = records.heading(record)
    lines += ["", "| what | bar | measured |", "|---|---|---|"]
    for name, part in parts.items():
        lines += [f"| {what} | {bar} | {measured} |" for what, bar, measured in ROWS[name](part)]
    lines += [passing.table(parts[name]) for name in ("passing", "tls") if name in parts]
    return "\n".join(lines) + "\n"


def admission(part):
    best = part["best"]
    yield "identity + tenant + admission on a cache hit, p50", "≤ 5 µs", f"**{best['admission_p50_ns'] / 1000:.2f} µs** (p99 {best['admission_p99_ns'] / 1000:.2f} µs); {best['unconfigured_p50_ns'] / 1000:.2f} µs where nothing is configured"
    yield f"{best['tenants']:,} tenants and {best['principals']:,} principals in memory", "≤ 60 MB", f"**{best['memory_bytes'] / 1e6:.1f} MB**"


def rates(part):
    for row in part["rows"]:
        admitted = row["admitted"] or 0.0
        yield f"admitted, {row['configured']:,}/s configured, {row['offered']:,}/s offered", "within 2 %", f"**{admitted:,.2f}/s** ({(admitted / row['configured'] - 1) * 100:+.2f} %)"


def refusals(part):
    ratio, rows = part["ratio"], part["rows"]
    yield "refusals/s of a bare responder's", "≥ 0.8×", f"**{ratio['median']:.2f}×** [{ratio['low95']:.2f}–{ratio['high95']:.2f}]: {rows['outrigger']['per_s']:,.0f} of {rows['bare']['per_s']:,.0f}/s"


def neighbours(part):
    for row in part["rows"]:
        settings, flood, within = row["settings"], row["ratios"]["flood"], row["ratios"]["within"]
        yield (
            f"neighbour's p99 ({row['kind']}, {row['quiet_per_s']}/s) while another offers {part['times']}× its limit of {row['noisy_limit']}/s",
            "≤ 1.5× of alone",
            f"**{flood['median']:.2f}×** [{flood['low95']:.2f}–{flood['high95']:.2f}]: {settings['flood']['p99_us'] / 1000:.2f} of {settings['alone']['p99_us'] / 1000:.2f} ms; "
            f"{within['median']:.2f}× while it keeps to its limit",
        )


def crowd(part):
    ratio = part["p99_ratio"]
    yield f"{part['idle']:,} idle and {part['slow']:,} slow connections", "≤ 200 MB", f"**{part['rss_mb']:.0f} MB** ({part['rss_before_mb']:.0f} MB before)"
    yield "normal clients' p99 meanwhile", "≤ 2×", f"**{ratio['median']:.2f}×** [{ratio['low95']:.2f}–{ratio['high95']:.2f}]"


def passed(part):
    for name, result in part["results"].items():
        ratio, added = result["to_better_peer"], result["paths"]["outrigger"]["added_p50_us"]
        yield f"passing through with limits on, {name}, of {result['better_peer']}", "≥ 1.0×", f"**{ratio['median']:.3f}×** [{ratio['low95']:.3f}–{ratio['high95']:.3f}]"
        yield f"added p50 at 1 connection, {name}", "≤ 100 µs", f"**{added['median']:.0f} µs**"


def passed_by_tls(part):
    for name, result in part["results"].items():
        ratio = result["to_haproxy"]
        yield f"passing through with TLS on the client side, {name}, of HAProxy with TLS", "≥ 1.0×", f"**{ratio['median']:.3f}×** [{ratio['low95']:.3f}–{ratio['high95']:.3f}]"


ROWS = {"admission": admission, "rates": rates, "refusals": refusals, "neighbours": neighbours, "crowd": crowd, "passing": passed, "tls": passed_by_tls}
