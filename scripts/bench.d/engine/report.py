"""A record as a page of tables."""

import records


def page(record):
    """Markdown of all parts."""
    computer = record["machine"]
    family, model = computer["cpu_family_model"]
    lines = [
        records.title(record),
        "",
        f"{computer['cpu']} (family {family}, model {model}), {computer['cores_used']} cores, {computer['memory']} of memory; {records.circumstances(record)}",
        "",
        "Every search runs on one thread, every build on two. Settings of all sides were chosen on one half of the queries and measured on the other, in alternating rounds. "
        "Outrigger's ratio compares like with like: one query a call, or one batch where it has such a mode. Bytes per vector of the others are those of their files, with full vectors in them.",
    ]
    if records.is_noisy(record):
        lines += ["", records.RATIOS_COUNT]
    if record["skipped"]:
        lines += ["", f"Not installed and so not measured: {', '.join(record['skipped'])}."]
    for name, part in record["parts"].items():
        lines += ["", *WRITERS[name](part)]
    return "\n".join(lines) + "\n"


def table(head, rows):
    widths = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(map(str, line)) + " |" for line in (head, widths, *rows)]


def recall(part):
    lines = ["## Queries per second at equal recall"]
    for name, one in part.items():
        about = one["dataset"]
        lines += ["", f"### {name}: {about['base']:,} × {about['dims']}, {about['metric']}", "", f"{about['origin']}; {about['queries_per_half']:,} queries in each half."]
        for k, depth in one["depths"].items():
            for target, rows in depth["targets"].items():
                lines += ["", f"recall@{k} ≥ {target} (other processes took {depth['other_cores']} cores meanwhile)", ""]
                lines += table(("index", "asked", "setting", "recall", "q/s", "Outrigger's ratio", "95 %"), [recall_row(row) for row in rows])
                if short := depth["short_of"][target]:
                    lines += ["", f"Never got there: {'; '.join(short)}."]
        lines += ["", "Built once for these searches:", ""]
        lines += table(("index", "build s", "bytes/vector"), [(peer, b.get("seconds", "failed"), size(b)) for peer, b in one["builds"].items()])
    return lines


def recall_row(row):
    ratio = (row.get("ratio") or {}).get(row["mode"]) or (row.get("ratio") or {}).get("single")
    shown = (f"{ratio['median']:.2f}", f"{ratio['low95']:.2f}–{ratio['high95']:.2f}") if ratio else ("", "")
    setting = ", ".join(f"{name} {value}" for name, value in row["setting"].items())
    asked = "one a call" if row["mode"] == "single" else "one batch"
    return (row["peer"], asked, setting, f"{row['recall']:.4f}", f"{row['qps']['median']:,.0f}", *shown)


def size(build):
    if "disk_bytes_per_vector" in build:
        return f"{build['bytes_per_vector']} in memory, vectors in mapped files not counted"
    return build.get("bytes_per_vector", "")


def build(part):
    lines = ["## Build: from vectors to an index on disk, two threads"]
    for name, one in part.items():
        about = one["dataset"]
        lines += ["", f"{name}: {about['base']:,} × {about['dims']}; median of {one['rounds']}", ""]
        rows = [(peer, built["failed"], "", "") if "failed" in built else build_row(peer, built) for peer, built in one["peers"].items()]
        lines += table(("index", "s", "times Outrigger's", "bytes/vector"), rows)
        if any(built.get("not_written_to_disk") for built in one["peers"].values()):
            lines += ["", "scann is not written to disk."]
    return lines


def build_row(peer, built):
    return (peer, f"{built['seconds']['median']:.2f}", f"{built['times_outrigger']['median']:.1f}", size(built))


def filtered(part):
    lines = ["## Filters: queries per second at recall@10 ≥ 0.95 among what is kept", ""]
    lines.append("Each side keeps a share drawn by itself in the same way. hnswlib's callback is called through Python, which costs it much of its time: native callers fare better.")
    for name, one in part.items():
        rows = [(label, *recall_row(row)[:1], *recall_row(row)[2:6]) for label, kept in one["filters"].items() for row in kept["rows"]]
        lines += ["", name, "", *table(("kept", "index", "setting", "recall", "q/s", "Outrigger's ratio"), rows)]
        for label, kept in one["filters"].items():
            lines += ["", f"{label}: {kept['short_answers']} of Outrigger's answers had fewer than k hits."]
            if kept["short_of"]:
                lines[-1] += f" Never got there: {'; '.join(kept['short_of'])}."
    return lines


def growth(part):
    lines = [f"## Growth of {part['name']}: queries per second at recall@10 ≥ {part['target']}", ""]
    rows = [(f"{int(count):,}", *recall_row(row)[:5]) for count, rows in part["steps"].items() for row in rows]
    lines += table(("vectors", "index", "asked", "setting", "recall", "q/s"), rows)
    return [*lines, "", "From the smallest to the largest queries/s fall by: " + "; ".join(f"{way} {fall}×" for way, fall in part["falls"].items()) + "."]


def kernel(part):
    lines = ["## Scan: nanoseconds per entry, medians of rounds", ""]
    rows = [(name, one["kernels"], f"{one['kernel_ns']['median']:.2f}", f"{one['engine_ns']['median']:.2f}", spread(one["ratio"]), f"{one['exact_ns']['median']:.0f}") for name, one in part.items()]
    return lines + table(("set", "instructions", "kernel, streamed", "in a search", "ratio (95 %)", "one exact comparison"), rows)


def inserts(part):
    lines = ["## Documents coming in beside one search thread", ""]
    rows = [(name, f"{one['rate']:,.0f}", f"{one['per_second']['median']:,.0f}", f"{one['per_busy_second']['median']:,.0f}", *phases(one["rounds"]), spread(one["p99_ratio"])) for name, one in part.items()]
    return lines + table(("set", "wanted/s", "written/s", "per second of its thread", "idle p50/p99 µs", "busy p50/p99 µs", "p99 ratio (95 %)"), rows)


def phases(rounds):
    middle = len(rounds) // 2
    values = {(phase, name): sorted(round[phase][name] for round in rounds)[middle] for phase in ("idle", "busy") for name in ("p50_us", "p99_us")}
    return [f"{values[phase, 'p50_us']:.0f} / {values[phase, 'p99_us']:.0f}" for phase in ("idle", "busy")]


def churn(part):
    lines = ["## Recall@10 after churn, against a fresh build that scans as many entries", ""]
    rows = []
    for name, one in part.items():
        for label in ("fresh", "churned", "churned_by_default"):
            state = one[label]
            figures = (f"{state['recall']:.4f}", f"{state['recall_far']:.4f}", f"{state['scanned']:,.0f}", f"{state['reranked']:.0f}", f"{state['imbalance']:.2f}")
            rows.append((f"{name}, {one['share']:.0%}", label.replace("_", " "), *figures))
    lines += table(("set, share", "index", "recall", "where the new ones lie", "scanned", "compared exactly", "imbalance"), rows)
    if anew := [name for name, one in part.items() if one["trained_anew"]]:
        lines += ["", f"Upkeep took as long as training: {', '.join(anew)} was probably trained anew."]
    return lines


def spread(ratio):
    return f"{ratio['median']:.2f} ({ratio['low95']:.2f}–{ratio['high95']:.2f})"


WRITERS = {"recall": recall, "build": build, "filter": filtered, "growth": growth, "kernel": kernel, "inserts": inserts, "churn": churn}
