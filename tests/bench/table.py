"""The results for people."""

from rich.table import Table

from tests.bench.figures import Figure, Results, Sample


def table(results: Results) -> Table:
    machine = results.machine
    where = (
        f"{machine.cpu}, {machine.cores} cores, load {machine.load_before} to {machine.load_after}"
    )
    commit = results.commit[:12] + (" and changes" if results.changed else "")
    shown = Table(title=f"Errand {commit}, {results.at:%Y-%m-%d %H:%M} UTC", caption=where)
    for name in ("figure", "n", "p50", "p95", "p99", "baseline p50", "ratio", "aim"):
        shown.add_column(name, justify="left" if name in {"figure", "aim"} else "right")
    for figure in results.figures:
        shown.add_row(*_row(figure))
    return shown


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        f"{figure.name} [dim]{figure.unit}[/]",
        str(figure.ours.count),
        *_percentiles(figure),
        f"{figure.baseline.p50:g}" if figure.baseline else "",
        f"{figure.ratio:g}" if figure.ratio is not None else "",
        _aims(figure),
    )


def _percentiles(figure: Figure) -> tuple[str, str, str]:
    ours: Sample = figure.ours
    if figure.unit != "ms":  # a few rounds have no tail to speak of
        return (f"{ours.p50:g}", "", "")
    return (f"{ours.p50:g}", f"{ours.p95:g}", f"{ours.p99:g}")


def _aims(figure: Figure) -> str:
    said = [
        f"[{'green' if aim.met else 'red'}]{'met' if aim.met else 'missed'}[/]: {aim.text}"
        for aim in figure.aims
    ]
    return "\n".join(said)
