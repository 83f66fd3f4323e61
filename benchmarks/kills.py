"""Does a command that is killed at any system call end as undisturbed when it is run again?

Each command that writes is run in copies of one home and killed by strace at one of its writing
system calls, chosen evenly over all of them; then it is run again as it was, and the home is
compared with that of an undisturbed one: rows, artifacts and which of them are packed, other files
and their bytes, what `verify` finds after `gc --now`. The second run may say that the work is done
already; it must not break.

    python benchmarks/kills.py --kills 300 --home smoke-home

`--home`: a finished home of scenarios/smoke.yaml, which is run first where it is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamlab.home.folder import Home
from streamlab.home.gc import collect, plan
from streamlab.home.pack import PACK, PACK_FILES
from streamlab.home.store import FolderStore
from streamlab.home.verify import verify
from streamlab.registry.registry import Registry

ROOT = Path(__file__).parents[1]
CLI = [sys.executable, str(ROOT / "cli.py")]
SMOKE = ROOT / "scenarios" / "smoke.yaml"
# Of those that write; what one machine lacks strace leaves out by `?`.
CALLS = ",".join(
    f"?{name}"
    for name in (
        *("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "renameat"),
        *("renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir", "mkdir", "flock"),
    )
)
SHORT = ("--set", "data.max_train_examples=32", "--set", "defaults.training.epochs=1")
SHORT += ("--set", "defaults.training.min_steps=6", "--set", "evaluation=last")


@dataclass(frozen=True)
class Case:
    """A command, what is run before it, and how it is run again after a kill."""

    name: str
    words: Sequence[str]
    before: Sequence[Sequence[str]] = ()
    again: Sequence[str] | None = None
    share: float = 1.0  # of the kills, compared with the others
    fresh: bool = False  # begins in a home that is not there yet


CASES = (
    Case("tag", ("tag", "best", "arrival:1")),
    Case("tag --remove", ("tag", "--remove", "best"), [("tag", "best", "arrival:1")]),
    Case("rm", ("rm", "1", "2")),
    Case("restore", ("restore", "1", "2"), [("rm", "1", "2")]),
    Case("gc", ("gc", "--now"), [("rm", "1", "2")], share=2),  # which packs what stays
    Case("gc of a pack", ("gc", "--now"), [("gc", "--now"), ("rm", "1", "2")], share=2),
    Case("purge of a pack", ("purge", "--run", "smoke-1", "--yes"), [("gc", "--now")]),
    Case("export of a pack", ("export", "sst2", "-o", "HOME/reports/a.diff"), [("gc", "--now")]),
    Case("purge --provider", ("purge", "--provider", "newswire", "--yes"), share=2),
    Case("purge --run", ("purge", "--run", "smoke-1", "--yes"), share=2),
    Case("export", ("export", "sst2", "-o", "HOME/reports/sst2.diff")),
    Case("export scores", ("export", "scores", "-o", "HOME/reports/scores.csv")),
    Case("report", ("report",), share=0.5),
    Case("plot", ("plot", "storage"), share=0.5),
    Case("import HOME", ("import", "OTHER", "--base", "BASE"), share=2, fresh=True),
    Case("import FILE", ("import", "FILE", "--provider", "me", "--task", "mine")),
    Case("merge", ("merge", "sst2", "--to", "HOME/reports/merged"), share=0.3),
    Case(
        "run", ("run", str(SMOKE), *SHORT), again=("run", str(SMOKE), *SHORT, "--resume"), share=0.3
    ),
)


def main() -> None:
    """Print a table, or with --json one object; exit with 1 where a home ends otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--only", action="append", help="a case's name; may repeat")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.only or case.name in options.only]
    shares = sum(case.share for case in cases)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.home)
        results = [bench.kill(case, round(options.kills * case.share / shares)) for case in cases]
    if options.json:
        print(json.dumps(results))
    else:
        print(f"{'command':<18} {'calls':>6} {'kills':>6} {'same':>6}")
        for row in results:
            print(f"{row['command']:<18} {row['calls']:>6} {row['kills']:>6} {row['same']:>6}")
            for line in row["different"]:
                print(f"  {line}")
        total = Counter({name: sum(row[name] for row in results) for name in ("kills", "same")})
        print(f"{total['same']} of {total['kills']} kills ended as undisturbed")
    sys.exit(any(row["different"] for row in results))


class Bench:
    """A prepared home, and copies of it in which commands are killed."""

    def __init__(self, folder: Path, home: Path | None) -> None:
        self.folder = folder
        self.prepared, self.file, self.base = folder / "prepared", folder / "sst2.diff", ""
        if home is None:
            self.run(self.prepared, ("run", str(SMOKE)), check=True)
        else:
            shutil.copytree(home, self.prepared)
        self.run(self.prepared, ("export", "sst2", "-o", str(self.file)), check=True)
        with Registry.open(Home(self.prepared).registry_url, clock=time.time) as registry:
            self.base = registry.bases.list()[0].model

    def kill(self, case: Case, n_kills: int) -> dict[str, Any]:
        """Kill a command `n_kills` times, and compare how each ends with an undisturbed one."""
        start = self.folder / "start"
        shutil.rmtree(start, ignore_errors=True)
        if not case.fresh:
            shutil.copytree(self.prepared, start)
        for words in case.before:
            self.run(start, words, check=True)
        home = self.begin(start)
        runs = state_of(home)["runs"] if case.again else []
        calls = self.calls_of(home, case.words)
        expected = state_of(home)
        different = []
        for number in range(n_kills):
            place = number * len(calls) // n_kills
            home = self.begin(start)
            self.run(home, case.words, kill_at=calls[place])
            again = self.run(home, case.again or case.words)
            if case.again and again.returncode and state_of(home)["runs"] == runs:
                again = self.run(home, case.words)  # there was nothing to go on with yet
            found = state_of(home) if (home / "registry.db").exists() else {}
            if "Traceback" in again.stderr:
                different.append(f"at {place}: {again.stderr.strip().splitlines()[-1]}")
            elif found != expected:
                names = [name for name in expected if found.get(name) != expected[name]]
                said = " ".join(again.stderr.split())[:200]
                different.append(f"at {place}: other {', '.join(names)}; {said}")
        print(f"{case.name}: {len(different)} differ", *different, sep="\n  ", file=sys.stderr)
        return {
            "command": case.name, "calls": len(calls), "kills": n_kills,
            "same": n_kills - len(different), "different": different,
        }  # fmt: skip

    def begin(self, start: Path) -> Path:
        """Return a copy of the home that a case begins with, at a path that is always the same."""
        home = self.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        if start.exists():
            shutil.copytree(start, home)
        return home

    def calls_of(self, home: Path, words: Sequence[str]) -> list[tuple[str, int]]:
        """Run a command undisturbed; return its writing calls: each name, and which of this name.

        strace counts per name; only the main thread is traced, since a child that is killed, as
        the compiler of the step, is another matter.
        """
        log = self.folder / "calls"
        traced = ["strace", "-qq", "-o", str(log), "-e", f"trace={CALLS}"]
        self.run(home, words, check=True, before=traced)
        found, numbers = [], Counter[str]()
        for name in re.findall(r"^(\w+)\(", log.read_text(errors="replace"), re.M):
            numbers[name] += 1
            found.append((name, numbers[name]))
        return found

    def run(
        self,
        home: Path,
        words: Sequence[str],
        *,
        check: bool = False,
        kill_at: tuple[str, int] | None = None,
        before: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, killed at one of its calls where that is given by name and number."""
        places = {"HOME": home, "OTHER": self.prepared, "FILE": self.file}
        words = [word.replace("BASE", self.base) if word == "BASE" else word for word in words]
        for name, path in places.items():
            words = [word.replace(name, str(path)) for word in words]
        if kill_at is not None:
            how = f"inject={kill_at[0]}:signal=KILL:when={kill_at[1]}"
            before = ["strace", "-qq", "-o", "/dev/null", "-e", how]
        command = [*before, *CLI, *words, "--home", str(home)]
        return subprocess.run(command, capture_output=True, text=True, check=check)  # noqa: S603


def state_of(path: Path) -> dict[str, Any]:
    """Return what a home holds, without times, after what was left over is collected."""
    home, now = Home(path), time.time()
    store = FolderStore(home.store)
    with Registry.open(home.registry_url, clock=time.time) as registry:
        planned = plan(registry, store, now=now, young_too=True, home=home)
        list(collect(registry, store, planned))
        runs = [(run.name, run.status) for run in registry.runs.list()]
        arrivals = registry.arrivals.list(removed=None)
        scores = [
            (s.run, s.task, s.metric, s.split, s.after_sequence, s.value)
            for s in registry.scores.list()
        ]
        found = [f"{f.problem} {f.detail}" for f in verify(registry, store, now=now, home=home)]
        tags = [(tag.name, tag.target) for tag in registry.tags.list()]
    artifacts = {
        stored.digest: (len(store.get(stored.digest)), PACK in stored.where)
        for stored in store.list()
        if stored.digest
    }
    return {
        "runs": runs,
        "arrivals": sorted(
            (a.run, a.task, a.version, a.method, a.status, a.digest or "", a.removed_at is None)
            for a in arrivals
        ),
        "scores": sorted(scores),
        "tags": tags,
        "artifacts": artifacts,
        "findings": found,
        "files": files_of(home),
    }


def files_of(home: Home) -> dict[str, str]:
    """Return the digest of every file whose bytes do not hold times, and the names of others."""
    found = {}
    for file in sorted(home.path.rglob("*")):
        name = str(file.relative_to(home.path))
        by_content = file.name in PACK_FILES or name.startswith(("registry.db", ".reserve"))
        if file.is_file() and not by_content:
            timed = name.startswith(("curves", "figures")) or name.endswith(".html")
            found[name] = "" if timed else hashlib.sha256(file.read_bytes()).hexdigest()
    return found


if __name__ == "__main__":
    main()
