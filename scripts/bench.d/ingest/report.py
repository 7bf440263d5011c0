"""A record as a page: the bars of issue 5 first, then what they come from."""

import loading
import records


def page(record):
    lines = records.heading(record)
    for name, part in record["parts"].items():
        lines += ["", *WRITERS[name](part)]
    return "\n".join(lines) + "\n"


def load(part):
    lines = loading.rows_table("Bulk until searchable", part["rows"], part["dataset"])
    lines += ["", "Outrigger's speed against each, a merge included where one was measured: " + "; ".join(f"{row['of']:.2f}× {row['peer']} ({row['clients']} clients)" for row in part["ratios"]) + "."]
    steady = part["steady"]
    cpu = steady["cpu_us"]
    return [*lines, "", f"Added to a trained index ({steady['shard']['build']}): {steady['documents']:,} documents, {steady['documents_per_s']:,}/s until searchable; each cost {cpu['outrigger']:.0f} µs of Outrigger's processor time and {cpu['elasticsearch']:.0f} µs of Elasticsearch's."]


def publication(part):
    lines = ["## From a refresh elsewhere until our searches show it", "", "| | p50 | p90 | p99 | longest |", "|---|---:|---:|---:|---:|"]
    for name, title in (("quiet", "nothing else"), ("while_written", f"while {part['rate']:,} documents/s arrive")):
        row = part[name]
        lines.append(f"| {title} | {row['p50_ms']:.0f} ms | {row['p90_ms']:.0f} ms | {row['p99_ms']:.0f} ms | {row['max_ms']:.0f} ms |")
    return lines


def beside(part):
    lines = ["## Searches while documents arrive (8 connections, `_source: false`)", "", "| | recall@10 | documents/s meanwhile | queries/s | p50 | p99 |", "|---|---:|---:|---:|---:|---:|"]
    for row in part["rows"]:
        lines.append(f"| {row['peer']} | {part['recalls'][row['peer']]:.3f} | {row['written_per_s']:,.0f} | {row['qps']:,.0f} | {row['p50_us'] / 1000:.2f} ms | {row['p99_us'] / 1000:.2f} ms |")
    by_kind = {(row["peer"], bool(row["written_per_s"])): row for row in part["rows"]}
    mine, native = by_kind["outrigger", True], by_kind["int8_hnsw", True]
    return [*lines, "", f"Outrigger keeps {mine['qps'] / by_kind['outrigger', False]['qps']:.2f} of its idle queries/s; its p99 is {mine['p99_us'] / native['p99_us']:.2f}× that of int8_hnsw."]


def existing(part):
    read = ", ".join(f"{row['documents_per_s']:,} ({row['streams']} streams)" for row in part["reads"])
    learnt = ", ".join(f"{row['documents_per_s']:,}" for row in part["learns"])
    return ["## Catching up with an index that exists", "", f"Elasticsearch alone delivers, documents/s: {read}. Outrigger from its start until all is searchable: {learnt}. Ratio of the best: {part['ratio']:.2f}."]


def million(part):
    audit, usage = part["audit"], part["usage"]["outrigger"]
    restarts = "; ".join(f"{how}: ready after {row['ready_s']:.2f} s ({row['build']})" for how, row in part["restart"].items())
    return [
        f"## {part['documents']:,} vectors of {part['dims']} dims",
        "",
        f"A look that finds no difference costs {audit['audit_s']:.3f} s of Elasticsearch's processor time (write and refresh included {audit['with_audit_s']:.3f} s, without anybody looking {audit['without_s']:.3f} s). "
        f"Restart, {restarts}. Outrigger: {usage['rss'] / 1e6:.0f} MB resident, {usage['anonymous'] / 1e6:.0f} MB of it maps no file, {usage['disk'] / 1e6:.0f} MB on disk.",
    ]


def many(part):
    idle = part["idle_cores"]
    return [
        f"## {part['indices']:,} small indices",
        "",
        f"{part['more_rss'] / 1e6:.0f} MB resident more than an empty sidecar ({part['restarted']['rss'] / 1e6:.0f} MB in all after a restart, ready after {part['restarted']['ready_s']:.1f} s); "
        f"idle: {idle['outrigger'] * 100:.1f} % of a core, Elasticsearch {idle['elasticsearch'] * 100:.1f} %. They were made in {part['created_s']:.0f} s.",
    ]


WRITERS = {"load": load, "publication": publication, "beside": beside, "existing": existing, "million": million, "many": many}
