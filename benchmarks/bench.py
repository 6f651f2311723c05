"""`make bench`: runs every benchmark, one after the other, and refreshes docs/results.md with what they found.

Small sizes by default, an hour or more on 2 cores; full sizes, which take many hours, with --full. Each is a process
of its own, and the next one runs where one fails. The JSON of every complete run stays in benchmarks/figures, so
--resume goes on where a run of the same commit was stopped, and --refresh writes the page again without running
anything. Not here: any measuring, and what the page shows (sheets.py, results.py).

    python benchmarks/bench.py [--full] [--only NAME] [--resume] [--refresh] [--data DIR] [--seed N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import CHECKOUT, commit, show
from results import check, finished, refresh
from sheets import SHEETS


@dataclass(frozen=True)
class Place:
    """Where things are; tests have places of their own."""

    scripts: Path = CHECKOUT / "benchmarks"
    figures: Path = CHECKOUT / "benchmarks" / "figures"
    page: Path = CHECKOUT / "docs" / "results.md"

    def kept(self, name: str, full: bool) -> Path:
        """The JSON of the last complete run of that size."""
        return self.figures / ("full" if full else "quick") / f"{name}.json"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags; the module's docstring is the help."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--full", action="store_true", help="full sizes; hours")
    parser.add_argument("--only", action="append", choices=list(SHEETS), help="run this one; may be repeated")
    parser.add_argument("--resume", action="store_true", help="leave out what is complete at this very commit")
    parser.add_argument("--refresh", action="store_true", help="run nothing, rewrite the page from what is kept")
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def run(name: str, place: Place, asked: argparse.Namespace) -> str:
    """Run one benchmark and keep its JSON if it is complete; returns "done" or what went wrong."""
    kept = place.kept(name, asked.full)
    part = kept.with_suffix(".part.json")  # a run that fails leaves the last complete one alone
    part.unlink(missing_ok=True)
    command = [sys.executable, str(place.scripts / f"{name}.py"), "--json", str(part)]
    command += [] if asked.full else ["--quick"]
    command += ["--data", str(asked.data)] if asked.data else []
    command += ["--seed", str(asked.seed)] if asked.seed else []
    code = subprocess.run(command, check=False).returncode
    if code:
        return f"failed with exit code {code}"
    if finished(part) is None:
        return "failed: it wrote no complete figures"
    part.replace(kept)
    return "done"


def done_before(name: str, place: Place, asked: argparse.Namespace) -> bool:
    """Whether a complete run of this commit, without changes on top, is kept."""
    told, now = finished(place.kept(name, asked.full)), commit()
    if told is None or now == "unknown" or now.endswith("-dirty"):
        return False
    return bool(told["meta"]["commit"] == now and told["meta"]["seed"] == asked.seed)


def run_all(names: Sequence[str], place: Place, asked: argparse.Namespace) -> dict[str, tuple[str, float]]:
    """Run the benchmarks in turn; what became of each, and its minutes. Ctrl-C ends the rest."""
    outcomes: dict[str, tuple[str, float]] = {}
    start = time.monotonic()
    for place_in_line, name in enumerate(names, 1):
        began = time.monotonic()
        print(f"[{place_in_line}/{len(names)}] {name}, {(began - start) / 60:.1f} minutes so far", flush=True)
        try:
            told = "done before" if asked.resume and done_before(name, place, asked) else run(name, place, asked)
        except KeyboardInterrupt:
            outcomes[name] = ("stopped", (time.monotonic() - began) / 60)
            break
        outcomes[name] = (told, (time.monotonic() - began) / 60)
        print(f"{name}: {told}, {outcomes[name][1]:.1f} minutes", flush=True)
    return {name: outcomes.get(name, ("not run", 0.0)) for name in names}


def main(argv: Sequence[str] | None = None, place: Place = Place()) -> int:
    """Run, refresh, and say how it went; 0 where everything is done."""
    asked = arguments(argv)
    names = [name for name in SHEETS if asked.only is None or name in asked.only]
    check(place.page, names)  # found out before the work, not after
    if asked.refresh:
        told = refresh(place.page, [place.kept(name, full) for name in names for full in (True, False)])
        print(f"{place.page.name}: {', '.join(told) or 'nothing new'}")
        return 0
    start = time.monotonic()
    outcomes = run_all(names, place, asked)
    good = [name for name, (outcome, _) in outcomes.items() if outcome.startswith("done")]
    told = refresh(place.page, [place.kept(name, asked.full) for name in good])
    show("Benchmarks", ("benchmark", "outcome", "minutes"), [(n, o, f"{m:.1f}") for n, (o, m) in outcomes.items()])
    print(f"{(time.monotonic() - start) / 60:.1f} minutes in all; {place.page.name}: {', '.join(told) or 'as it was'}")
    for name, (outcome, _) in outcomes.items():
        if name not in good:
            again = f"make bench{' FULL=1' if asked.full else ''} ONLY={name}"
            print(f"{name}: {outcome}; its tables are as they were ({again})", file=sys.stderr)
    return 0 if len(good) == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
