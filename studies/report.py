"""docs/study.md: a row a claim, and a section with its picture, its figures and what is known of it."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from studies.cells import Cells
from studies.claim import FULL, QUICK, Claim, Comparison, Results
from studies.pictures import STYLE, new_figure, save
from studies.text import CHOICE, HEAD, REWORDED
from studies.verdicts import Effect, Finding, Outcome, Verdict, judge

MARKS: dict[Verdict, str] = {
    "supported": "✔ supported",
    "conditional": "◐ conditional",
    "contradicted": "✘ contradicted",
    "unclear": "? not told from noise",
}
ANSWERS: dict[Outcome, str] = {
    "holds": "✔ yes",
    "smaller": "✘ less than matters",
    "opposite": "✘ the opposite",
    "unclear": "? not told from noise",
}


def seeds_of(claim: Claim, results: Results) -> tuple[int, ...]:
    """The seeds that are whole: all ten, or the first three; none where cells are missing."""
    return next((seeds for seeds in (FULL, QUICK) if not claim.missing(results, seeds)), ())


def write(files: Sequence[Cells], document: Path) -> None:
    """Writes the document and its pictures, of the claims whose cells are there."""
    images = document.parent / "img" / "study"
    rows, sections = [], []
    for file in files:
        claim, results = file.claim, file.results
        if not (seeds := seeds_of(claim, results)):
            rows.append(f"| {claim.number} | {claim.title} | not run yet | | |")
            continue
        finding = judge(claim, results, seeds)
        rows.append(row(claim, finding))
        picture = images / f"{claim.number}.svg"
        draw(claim, results, seeds, picture)
        sections.append(section(claim, finding, picture.relative_to(document.parent)))
    table = "\n".join(["| | claim | verdict | the largest effect | runs |", "|---|---|---|---|---|", *rows])
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text("\n\n".join([HEAD, table, REWORDED, *sections, CHOICE]) + "\n")


def draw(claim: Claim, results: Results, seeds: Sequence[int], path: Path) -> None:
    figure = new_figure()
    with mpl.rc_context(STYLE):
        claim.draw(results, seeds, figure)
    save(figure, path)


def row(claim: Claim, finding: Finding) -> str:
    """A claim's row: verdict, and the comparison whose arms differ most, or most clearly do not."""
    index = max(range(len(finding.effects)), key=lambda each: abs(finding.effects[each].delta))
    told = difference(claim.comparisons[index], finding.effects[index])
    runs = "full" if finding.full else "exploratory"
    link = f"[{claim.number}](#{anchor(claim)})"
    return f"| {link} | {claim.title} | {MARKS[finding.verdict]} | {told} | {runs} |"


def anchor(claim: Claim) -> str:
    """What a heading's link is called."""
    kept = "".join(letter for letter in heading(claim).lower() if letter.isalnum() or letter in " -")
    return kept.replace(" ", "-")


def heading(claim: Claim) -> str:
    return f"{claim.number} {claim.title}"


def section(claim: Claim, finding: Finding, picture: Path) -> str:
    seeds = "10 paired seeds" if finding.full else "3 paired seeds: exploratory"
    parts = [
        f"## {heading(claim)}",
        f"> {claim.notes}",
        f"**{MARKS[finding.verdict]}** ({seeds})",
        f"![{claim.title}: {claim.experiment}]({picture.as_posix()})",
        f"*Experiment*: {claim.experiment} `addnorm study --only {claim.number}`",
        comparisons(claim, finding),
        f"*What is known*: {claim.holds}",
        f"*Published*: {claim.anchor}",
    ]
    return "\n\n".join(parts)


def comparisons(claim: Claim, finding: Finding) -> str:
    lines = ["| what the notes expect | median difference (95 %) | Cliff's delta | p | |", "|---|---|---|---|---|"]
    for comparison, effect, p, outcome in zip(
        claim.comparisons, finding.effects, finding.p, finding.outcomes, strict=True
    ):
        shown = f"{p:.3f}" if finding.full else "–"
        lines.append(
            f"| {comparison.question} | {interval(comparison, effect)} | {effect.delta:+.2f} | {shown} "
            f"| {answer(comparison, outcome)} |"
        )
    return "\n".join(lines)


def answer(comparison: Comparison, outcome: Outcome) -> str:
    if outcome == "opposite" and comparison.expected == "alike":
        return "✘ they differ"
    return ANSWERS[outcome]


def difference(comparison: Comparison, effect: Effect) -> str:
    return f"{comparison.measure.replace('_', ' ')} {interval(comparison, effect)}"


def interval(comparison: Comparison, effect: Effect) -> str:
    """The median difference b - a and its interval, and how many values were not finite."""
    text = f"{digits(effect.median)} ({digits(effect.low)} to {digits(effect.high)})"
    broken = ", ".join(
        f"{count} of {name} diverged" for count, name in zip(effect.broken, ("a", "b"), strict=True) if count
    )
    wanted = f"within ±{comparison.margin:g}" if comparison.expected == "alike" else f"≥ {comparison.margin:g} wanted"
    return f"{text}; {wanted}" + (f"; {broken}" if broken else "")


def digits(value: float) -> str:
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:+.2g}" if abs(value) < 100 else f"{value:+,.0f}"
