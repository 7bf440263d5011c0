"""Queries per second against recall, as a picture."""

COLOURS = {"outrigger": "#d62728", "faiss": "#1f77b4", "hnswlib": "#2ca02c", "usearch": "#9467bd", "scann": "#ff7f0e"}


def draw(recall, path):
    """One panel for each set and depth."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "outrigger"
    import matplotlib.pyplot as plot

    panels = [(name, k, one["depths"][k]["curves"]) for name, one in recall.items() for k in one["depths"]]
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure, axes = plot.subplots(down, across, figsize=(6.5 * across, 4.5 * down), squeeze=False)
    for axis, (name, k, curves) in zip(axes.flat, panels):
        about = recall[name]["dataset"]
        for label, points in curves.items():
            family, mode = label.split(", ")
            style = {"color": COLOURS[family], "linestyle": "-" if mode == "single" else "--", "marker": ".", "linewidth": 1.3}
            axis.plot([point["recall"] for point in points], [point["qps"] for point in points], label=label, **style)
        axis.set_yscale("log")
        axis.set_xlim(0.8, 1.0)
        axis.set_title(f"{name}{' (made)' if about['made'] else ''}: {about['base']:,} × {about['dims']}, {about['metric']}")
        axis.set_xlabel(f"recall@{k}")
        axis.set_ylabel("queries/s, one thread")
        axis.grid(alpha=0.3, which="both")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plot.close(figure)
