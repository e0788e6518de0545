"""What becomes of damaged files: each kind that the program reads, with each command that reads it.

Run it as ``python benchmarks/attacks.py --count 20 --seed 1``. Every case damages one file of a small working folder
and runs one command; the table counts what came of it. ``same``: the result of the undamaged file. ``other``: what
people bring was another right input. ``refused``: one paragraph, or the file is named in the result. The other columns
are faults, and each is printed with all that is needed to repeat it; the exit code is 1 where there is one.

Kills are counted by tests of their own: ``pytest -s tests/pipeline/test_store_faults.py -k kills`` prints how many runs
were killed and what was lost; ``tests/pipeline/test_store_repair.py`` mends what it damaged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fuzz.attack import cases, count_faults, run_attacks, table
from fuzz.kinds import TARGETS
from fuzz.scene import build_scene


def main() -> int:
    """Carry out the attacks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10, help="cases of each kind of file and command")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the kind's or the command's name")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    targets = [target for target in TARGETS if options.only in f"{target.title} {target.name}"]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        (scene := Path(folder) / "scene").mkdir()
        build_scene(scene)
        chosen = [case for target in targets for case in cases(target, options.count, options.seed)]
        outcomes = list(run_attacks(scene, chosen, options.processes))
    faults = count_faults(outcomes)
    for one in faults:
        print(one, end="\n\n")
    print("\n".join(table(outcomes)))
    print(f"{len(outcomes)} cases in {time.monotonic() - begun:.0f} s, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
