"""How much memory many runs in a row take, and whether it stays level: ``python -m benchmarks.memory``."""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path

from benchmarks.speed import machine, prompt_of, tile
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.engine import Engine
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import PAPER_PROMPTS
from mmmrs_demo.request import TextRequest, TranslationRequest
from mmmrs_demo.settings import Settings

LOOKS = 20
MB = 2**20


def main() -> None:
    """Make pictures, print the curve of memory, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default=Settings().bundle)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=2, help="of each run")
    parser.add_argument("--translation", choices=TRANSLATIONS, action="append", help="these alone (default: all)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("memory.json"))
    arguments = parser.parse_args()
    settings = Settings(bundle=arguments.bundle)
    engine = Engine(Catalog.load(settings.weights), settings)
    keys = arguments.translation or list(TRANSLATIONS)

    curve = {0: resident()}
    for run in range(1, arguments.runs + 1):
        key = [None, *keys][run % (len(keys) + 1)]
        said = {"steps": arguments.steps, "seed": run}
        if key is None:
            engine.run(TextRequest(prompt=PAPER_PROMPTS[run % len(PAPER_PROMPTS)], **said))
        else:
            source = TRANSLATIONS[key].source
            wanted = TranslationRequest(translation=key, prompt=prompt_of(TRANSLATIONS[key]), **said)
            engine.run(wanted, tile(engine.bundle().size, source))
        if run % max(1, arguments.runs // LOOKS) == 0:
            curve[run] = resident()
            print(f"{run:5d} runs: {curve[run]:,.0f} MB", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak: {peak:,.0f} MB")
    report = {"bundle": arguments.bundle, "machine": machine(), "resident MB by runs": curve, "peak MB": peak}
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"All of it: {arguments.out}")


def resident() -> float:
    """Return the memory that this process has, in MB; Linux alone tells it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / MB


if __name__ == "__main__":
    main()
