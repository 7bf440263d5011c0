"""es-proxy/COMPATIBILITY.md, written from what the tests of the official clients showed."""

import collections

from stack import ROOT, say

PAGE = ROOT / "es-proxy/COMPATIBILITY.md"
NAMES = {"python": "Python", "javascript": "JavaScript", "go": "Go", "java": "Java", "rust": "Rust"}
HEAD = """# Clients and versions

Written by `scripts/test-clients --write-table` from what the tests of the official clients showed; don't edit. Each client is used unchanged, once through Outrigger
and once directly, and what it makes of the answers must be the same. `tests/tests/versions.rs` tests versions that meet: clusters of 8.19 and 9.2 in the middle of a
rolling upgrade, a node upgraded behind a running Outrigger, and newer versions, which pass until `--allow-version` names them.

Whole-program tests run against Elasticsearch 8.10.4, 8.15.3, 8.19.0 and 9.2.0.

One limit: Java's typed client knows the index types of its own version alone. It refuses to name `ivf` in a typed mapping (`Invalid enum`), and should refuse to read one.
Leave out `index_options`, which becomes `ivf` too, or make the index by its low-level client; read such mappings by the low-level client. Searches and writes are not concerned.

What each client does about 429 by itself stands in [Tenants](TENANTS.md#what-official-clients-do). Errors of a tenant's limits and quotas were read in each (`errors of limits`, `quotas`).
"""


def write_table(outcomes):
    """`outcomes`: for each (version, client) the features that passed."""
    versions = list(dict.fromkeys(version for version, _ in outcomes))
    tested = dict.fromkeys(client for _, client in outcomes if client.language in NAMES)
    clients = sorted(tested, key=lambda client: (list(NAMES).index(client.language), client.major))
    # What most of them have comes first, in the order in which it is tested.
    having = collections.Counter(name for client in clients for name in dict.fromkeys(name for shown in outcomes_of(outcomes, client) for name in shown))
    features = sorted(having, key=lambda name: -having[name])
    rows = [["client", *(f"Elasticsearch {version}" for version in versions)]]
    for client in clients:
        rows.append([f"{NAMES[client.language]} {client.version()}"] + [cell(outcomes.get((version, client))) for version in versions])
    by_client = [["feature", *(f"{NAMES[client.language]} {client.major}" for client in clients)]]
    for name in features:
        shown = [all(of.get(name, False) for of in outcomes_of(outcomes, client)) for client in clients]
        by_client.append([name, *("yes" if passed else "–" for passed in shown)])
    frameworks = [version for version, client in outcomes if client.language == "frameworks"]
    text = f"{HEAD}\n{table(rows)}\nA dash stands for what a client does not have, or what is not tested with it.\n\n{table(by_client)}"
    if frameworks:
        text += f"\nLangChain, LlamaIndex, Haystack and VectorDBBench, pinned in `tests/clients/frameworks`, pass with Elasticsearch {', '.join(frameworks)}.\n"
    PAGE.write_text(text)
    say(f"wrote {PAGE.relative_to(ROOT)}")


def outcomes_of(outcomes, client):
    return [features for (_, of), features in outcomes.items() if of is client]


def cell(features):
    if features is None:
        return "–"
    missing = [name for name, passed in features.items() if not passed]
    return f"{len(features)} features" if not missing else f"not: {', '.join(missing)}"


def table(rows):
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body]) + "\n"
