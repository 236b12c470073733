#!/usr/bin/env python3
"""The black-box suite: asks a running service over gRPC and holds it to its contract, whatever store it has.

    python3 tests/blackbox --address 127.0.0.1:50051 --transcript FILE

It knows the service by its address and by what it reflects. The service must take claims from metadata, and its store
must be empty. Each scenario has a tenant of its own, fails or passes alone, and writes what it asked and what came
back. The transcripts of two stores are the same, byte for byte, if both were asked with the same --now.
"""

import argparse
import importlib
import pathlib
import sys
import time
import traceback

sys.dont_write_bytecode = True  # the sources may be in a folder that is not to be written to

from client import Client  # noqa: E402
from transcript import Transcript  # noqa: E402
from world import SCENARIOS, World  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="blackbox", description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True, help="host:port of the service")
    parser.add_argument("--transcript", default="/dev/null", help="the file to write what was asked and answered to")
    parser.add_argument("--now", type=int, help="the service's time, in ms since 1970; unset: this machine's")
    parser.add_argument("--descriptor", help="a file that `auditlog descriptor` wrote: reflection must tell the same")
    parser.add_argument("--only", default="", help="run the scenarios with this in their names")
    return parser.parse_args()


def load_scenarios():
    """Imports all modules of scenarios, which then are in SCENARIOS."""
    folder = pathlib.Path(__file__).parent / "scenarios"
    for file in sorted(folder.glob("[a-z]*.py")):
        importlib.import_module(f"scenarios.{file.stem}")


def run(scenario, client, transcript, options):
    """Whether it passed."""
    name = scenario.__name__
    transcript.begin(name)
    world = World(client, transcript, options, name)
    try:
        scenario(world)
    except Exception as error:  # whatever it is, the other scenarios still have something to tell
        place = traceback.extract_tb(error.__traceback__)[1]
        print(f"FAILED {name}, {pathlib.Path(place.filename).name}:{place.lineno}: {error}", file=sys.stderr)
        if not isinstance(error, AssertionError):
            traceback.print_exc()
        return False
    return True


def main():
    options = arguments()
    options.now = options.now or int(time.time() * 1000)
    load_scenarios()
    chosen = [scenario for scenario in SCENARIOS if options.only in scenario.__name__]
    begun = time.monotonic()
    client = Client(options.address)
    with open(options.transcript, "w", encoding="utf-8") as file:
        transcript = Transcript(file)
        passed = [run(scenario, client, transcript, options) for scenario in chosen]
    took = time.monotonic() - begun
    print(f"{sum(passed)} of {len(chosen)} scenarios passed, {transcript.lines} lines, {took:.1f} s")
    sys.exit(0 if chosen and all(passed) else 1)


if __name__ == "__main__":
    main()
