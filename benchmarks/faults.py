"""What survives faults: kills at any moment, damaged files, and damaged inputs of every kind.

    python benchmarks/faults.py --json faults.json
    python benchmarks/faults.py --kills 20 --fuzz-cases 5000 --parts kills fuzz

A tiny simulated cohort goes through all stages. Each kill is a SIGKILL at a chosen moment (half of
them at the renames that publish files and folders) of a stage, on an empty run or over an existing
one; then all that was finished has to be whole, and the same command has to leave the files that it
leaves undisturbed. The figures are written after every step. Linux and macOS.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fault_damage import DamageFigures, clear, damage_all
from fault_fuzz import fuzz
from fault_kills import KillFigures, kill_stages
from fault_stages import Finished
from standings import aligned, command_line, keep, machine

PARTS = ("kills", "damage", "fuzz", "ranks")
TWO_RANKS = Path(__file__).with_name("two_ranks.py")
MUST = {"files_lost": 0, "participants_moved": 0, "silent_acceptances": 0, "uncaught": 0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and print the table; 1 if a promise is broken."""
    parser = command_line(__doc__ or "")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--fuzz-cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="a folder for the runs; by default a new one")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args(arguments)
    study = Study(args.json)
    with tempfile.TemporaryDirectory(dir=args.work, prefix="faults-") as folder:
        finished = Finished(Path(folder))
        finished.make_source()
        if "kills" in args.parts:
            study.begin("kills", args.kills)
            kill_stages(finished, args.kills, args.seed, study.kills)
        if "damage" in args.parts:
            study.begin("damaged artefacts", 0)
            damage_all(finished, study.damage)
            clear(finished)
        if "fuzz" in args.parts:
            study.begin("fuzz cases", args.fuzz_cases)
            fuzz(finished, args.fuzz_cases, args.seed, study.fuzz)
    if "ranks" in args.parts:
        study.ranks()
    print("\n" + study.table())
    return study.broken()


class Study:
    """The figures, written to a file and shown as they come.

    Args:
        path: the JSON file; None for none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.figures: dict[str, Any] = {"machine": machine()}
        self.notes: list[str] = []
        self._part, self._all, self._began = "", 0, 0.0

    def begin(self, part: str, number: int) -> None:
        """A part of this many steps begins; 0 if their number is not known."""
        self._part, self._all, self._began = part, number, time.monotonic()

    def kills(self, found: KillFigures) -> None:
        """Take the figures of kills."""
        self.notes = found.notes
        self._tell(
            sum(found.kills.values()),
            kills=sum(found.kills.values()),
            identical_resumes=found.identical,
            files_lost=found.lost,
            participants_moved=found.moved,
            **{f"kills_{name.replace(' ', '_')}": n for name, n in sorted(found.kills.items())},
        )

    def damage(self, found: DamageFigures) -> None:
        """Take the figures of damaged artefacts; a raw error is no acceptance, but no notice."""
        wrong = [*found.accepted, *found.raw]
        self._more("damage", wrong)
        self._tell(
            found.artefacts,
            damaged_artefacts=found.artefacts,
            silent_acceptances=len({line.split(":")[0] for line in found.accepted}),
            damaged_raw_errors=len({line.split(":")[0] for line in found.raw}),
        )

    def fuzz(self, found: dict[str, Any]) -> None:
        """Take the figures of fuzzing."""
        self._more("fuzz", [f"{number} x {name}" for name, number in found["uncaught"].items()])
        number = sum(found["cases"].values())
        self._tell(
            number,
            fuzz_cases=number,
            uncaught=len(found["uncaught"]),
            **{f"fuzz_{kind}": count for kind, count in found["cases"].items()},
        )

    def ranks(self) -> None:
        """Take the difference of losses that the study of two ranks finds, where it is there."""
        if not TWO_RANKS.is_file():
            return
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "ranks.json")
            subprocess.run([sys.executable, str(TWO_RANKS), "--json", str(out)], check=False)
            found = json.loads(out.read_text()) if out.is_file() else {}
        name = "two_rank_loss_difference"
        self.figures |= {key: value for key, value in found.items() if key == name}
        self._write()

    def broken(self) -> int:
        """1 if a figure is not what is promised."""
        wrong = any(self.figures.get(name, must) != must for name, must in MUST.items())
        same = self.figures.get("kills") == self.figures.get("identical_resumes")
        return int(wrong or not same)

    def table(self) -> str:
        """One row per figure, and failures."""
        rows = [[name, str(value)] for name, value in self.figures.items() if name != "notes"]
        return "\n".join([aligned(rows), *self.notes])

    def _more(self, kind: str, lines: Sequence[str]) -> None:
        others = [note for note in self.notes if not note.startswith(f"{kind}: ")]
        self.notes = [*others, *(f"{kind}: {line}" for line in lines)]

    def _tell(self, done: int, **figures: Any) -> None:
        self.figures |= figures
        seconds = time.monotonic() - self._began
        left = f", {seconds / done * (self._all - done) / 60:.0f} min left" if self._all else ""
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = (spent.ru_utime + spent.ru_stime) / 60
        self.figures["cpu_minutes"] = round(cpu, 1)
        print(f"{self._part}: {done}, {cpu:.1f} CPU min{left}", flush=True)
        self._write()

    def _write(self) -> None:
        keep(self.figures | {"notes": self.notes}, self.path)


if __name__ == "__main__":
    sys.exit(main())
