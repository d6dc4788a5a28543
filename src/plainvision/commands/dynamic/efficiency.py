"""Show how few multiply-adds would do for the answers of the trained network, and for those of the best case.

Choosing so takes an oracle: it has to know the answer, or the true class, before it chooses.

Example: plainvision dynamic efficiency runs/stride_and_size --figure efficiency.pdf
"""

from plainvision.commands import Table, parsed, show
from plainvision.commands.dynamic.outcomes import OutcomesOptions
from plainvision.commands.dynamic.printed import ORACLE

Arguments = OutcomesOptions


def main(words: list[str]) -> None:
    """Print the table, and write the record and the figure."""
    arguments = parsed(Arguments, words, "dynamic efficiency", __doc__)

    from plainvision.dynamic.tables import efficiency_rows
    from plainvision.figures import outcomes as figures

    found = arguments.read("efficiency")
    rows = efficiency_rows(found)
    several = len(found) > 1
    unit, letter = (1e9, "G") if max(row["macs"] for row in rows) >= 1e9 else (1e6, "M")
    heads = ("what", "top-1\n%", f"MACs\n{letter}", "fewer")
    table = Table(("outcomes", *heads) if several else heads, words=1 + several)
    for row in rows:
        macs = row["macs"] / unit
        cost = f"{macs:.0f}" if macs >= 99.95 else f"{macs:#.3g}"
        fewer = "" if row["factor"] is None else f"{row['factor']:.2f} x"
        cells = (row["what"], f"{row['top1']:.2f}", cost, fewer)
        last = row["what"] == "best case, cheapest"
        table.add_row(*((row["outcomes"], *cells) if several else cells), end_section=last)
    show(table)
    print(
        "MACs are multiply-adds, the mean over the images. Cheapest is each image's cheapest permutation of the same "
        f"answer.\nOnly an oracle can choose that, or the best case. {ORACLE}"
    )
    first = next(iter(found.values()))
    points = [(row["outcomes"] if several else "", row["macs"], row["top1"], row["what"]) for row in rows]
    claim = "multiply-adds that an oracle needs to answer as the trained network or as the best case does"
    drawn = figures.efficiency(first.macs, first.each(), points)
    names = "efficiency.png", "efficiency.json"
    arguments.write(["efficiency", *words], claim, found, {"rows": rows}, drawn, names)
