"""A record as a page: each kind of search with its bar."""

import records


def page(record):
    part = record["parts"]["search"]
    about = f" {part['dataset']['base']:,} × {part['dataset']['dims']}, 8 connections, every peer merged to one segment and at the least `num_candidates` with enough recall@10."
    lines = records.heading(record, about)
    lines += ["", "| searches | bar | of the best native [95 %] | Outrigger, per s | best native, per s | p99 | recall: Outrigger, best native | way |", "|---|---:|---:|---:|---:|---|---|---|"]
    lines += [line(row) for row in part["rows"]]
    added = part["passing"]["added_p50_us"]
    lines += ["", f"A search that passes (match query, 1 connection) takes {added['median']:.0f} µs more at the median [{added['low95']:.0f}–{added['high95']:.0f}]; bar 100."]
    usage = part["usage"]
    lines += ["", f"Outrigger at the end: {usage['rss'] / 1e6:.0f} MB resident, {usage['anonymous'] / 1e6:.0f} MB of it maps no file."]
    return "\n".join([*lines, "", *details(part)]) + "\n"


def line(row):
    mine = next(each for each in row["rows"] if each["peer"] == "outrigger")
    best = next((each for each in row["rows"] if each["peer"] == row["best"]), None)
    if best is None:
        return f"| {row['title']} | {row['bar']:.1f}× | no native type reaches the recall | {mine['per_s']:,.0f} | – | {mine['p99_us'] / 1000:.1f} ms | {recall(row, 'outrigger')} | {ways(row)} |"
    ratio = row["ratio"]
    return (
        f"| {row['title']} | {row['bar']:.1f}× | **{ratio['median']:.2f}×** [{ratio['low95']:.2f}–{ratio['high95']:.2f}] {row['best']} | {mine['per_s']:,.0f} | {best['per_s']:,.0f} "
        f"| {mine['p99_us'] / 1000:.1f}, {best['p99_us'] / 1000:.1f} ms | {recall(row, 'outrigger')}, {recall(row, row['best'])} | {ways(row)} |"
    )


def recall(row, peer):
    setting = row["settings"][peer]
    return f"{setting['recall']:.3f} ({setting['num_candidates'] or 'default'})"


def ways(row):
    return "; ".join(dict.fromkeys(way.split(";")[0] for way in row["ways"]))


def details(part):
    lines = ["## Everybody", "", "| searches | peer | num_candidates | recall | per s | p50 | p99 | cores: Elasticsearch, Outrigger, client |", "|---|---|---|---:|---:|---:|---:|---|"]
    for row in part["rows"]:
        for each in row["rows"]:
            setting, cores = row["settings"][each["peer"]], each["server_cores"]
            lines.append(
                f"| {row['kind']} | {each['peer']} | {setting['num_candidates'] or 'default'} | {setting['recall']:.3f} | {each['per_s']:,.0f} | {each['p50_us'] / 1000:.2f} ms | {each['p99_us'] / 1000:.2f} ms "
                f"| {cores['elasticsearch']:.2f}, {cores['outrigger']:.2f}, {each['client_cores']:.2f} |"
            )
    return lines
