"""Ingest until searchable: from the first byte of the first bulk request until a search sees the last document."""

import time

import machine
import peers
from stack import say


def run(servers, client, datasets, quick):
    """All peers with 1 and with 4 bulk clients. Returns the part of the record."""
    results = {}
    for dataset in datasets:
        outrigger = servers.outrigger(f"ingest-{dataset.name}")
        client.processes = {"elasticsearch": servers.es_pid, "outrigger": outrigger.pid}
        rows = []
        for clients in (4,) if quick else (1, 4):
            for peer in peers.all_of(servers, outrigger):
                # A merge takes what it takes, however many clients wrote before.
                merge = peer.name == "int8_hnsw" and clients == 1
                rows.append(load(servers, client, peer, dataset, clients, merge))
                peer.drop()
        servers.stop(outrigger)
        results[dataset.name] = {"dataset": dataset.describe(), "rows": rows}
    client.processes = {}
    return results


def load(servers, client, peer, dataset, clients, merge, before_merge=None):
    """Loads one peer; returns what it took. `before_merge` may look at the index as it is then."""
    requests = dataset.bulk_file(peer.index, servers.folder)
    empty = peer.outrigger and peer.outrigger.usage()
    peer.create(dataset)
    with machine.Watch(client.processes) as watch:
        sent = client.once(peer.server, requests, clients, "application/x-ndjson")
        began = sent["started_unix"]
        peer.web.expect("POST", f"/{peer.index}/_refresh")
        refreshed = time.time() - began
        peer.wait_until_searchable(dataset)
        searchable = time.time() - began
    total = len(dataset.base)
    row = {
        "peer": peer.name,
        "clients": clients,
        "documents": total,
        "sent_s": round(sent["seconds"], 3),
        "refreshed_s": round(refreshed, 3),
        "searchable_s": round(searchable, 3),
        "documents_per_s": round(total / searchable),
        "server_cpu_s": round(sum(watch.cores.values()) * searchable, 1),
        "cpu_s": {name: round(cores * searchable, 2) for name, cores in watch.cores.items()},
        "other_cores": watch.others(sent["cpu_s"] / searchable),
        "segments": peer.segments(servers.es),
        "client": sent,
    }
    if peer.outrigger:
        shard = peer.wait_for_lists()
        row |= {"trained_s": round(time.time() - began, 3), "shard": shard, "outrigger_before": empty}
    if before_merge:
        row["unmerged"] = before_merge(peer)
    if merge and not peer.outrigger:
        merging = time.time()
        servers.es.expect("POST", f"/{peer.index}/_forcemerge?max_num_segments=1")
        peer.wait_until_searchable(dataset)
        row["merge_s"] = round(time.time() - merging, 3)
        row["documents_per_s_with_merge"] = round(total / (searchable + row["merge_s"]))
    row["usage"] = peer.usage(servers)
    merged = f", merged after {row['merge_s']:.1f} s more" if "merge_s" in row else ""
    trained = f", lists trained after {row['trained_s']:.1f} s in all ({shard['build']})" if peer.outrigger else ""
    say(f"{dataset.name}, {clients} clients, {peer.name}: searchable after {searchable:.1f} s ({row['documents_per_s']:,}/s){merged}{trained}")
    return row


def table(part):
    lines = []
    for name, result in part.items():
        lines += rows_table(f"Ingest until searchable: {name}", result["rows"], result["dataset"])
    return "\n".join(lines)


def rows_table(title, rows, dataset):
    """Documents per second, and how many times int8_hnsw's."""
    lines = [f"\n### {title} ({dataset['base']:,} × {dataset['dims']}, {dataset['similarity']})\n"]
    lines += ["| peer | bulk clients | searchable after | documents/s | of int8_hnsw | with merge or lists trained | disk | servers' CPU until searchable | foreign cores meanwhile | client's cores |", "|---|---|---|---|---|---|---|---|---|---|"]
    reference = {row["clients"]: row["documents_per_s"] for row in rows if row["peer"] == "int8_hnsw"}
    for row in rows:
        ratio = f"{row['documents_per_s'] / reference[row['clients']]:.2f}×" if row["clients"] in reference else "–"
        after = "–"
        if "merge_s" in row:
            after = f"{row['searchable_s'] + row['merge_s']:.1f} s merged"
        if "trained_s" in row:
            after = f"{row['trained_s']:.1f} s {row['shard']['build']}"
        usage = row["usage"]
        disk = f"{usage['elasticsearch_store'] / 1e6:.0f} MB" + (f" + {usage['outrigger']['disk'] / 1e6:.0f} MB" if "outrigger" in usage else "")
        lines.append(
            f"| {row['peer']} | {row['clients']} | {row['searchable_s']:.1f} s | {row['documents_per_s']:,} | {ratio} | {after} | {disk} | {row['server_cpu_s']:.0f} s | {row['other_cores']:.2f} | {row['client']['client_cores']:.2f} |"
        )
    for row in rows:
        if "outrigger_before" in row:
            usage, before = row["usage"]["outrigger"], row["outrigger_before"]
            lines.append(
                f"\nOutrigger's memory after {row['clients']} clients: {usage['rss'] / 1e6:.0f} MB resident, {usage['anonymous'] / 1e6:.0f} MB of it maps no file "
                f"({before['rss'] / 1e6:.0f} and {before['anonymous'] / 1e6:.0f} MB before); engine says {row['shard']['memory_bytes'] / 1e6:.0f} MB. "
                f"Elasticsearch, all peers together: {row['usage']['elasticsearch']['rss'] / 1e6:.0f} MB resident, {row['usage']['elasticsearch_heap_used'] / 1e6:.0f} MB of heap used."
            )
    return lines
