#!/usr/bin/env python3
"""Runs one guest scenario: run.py GANNET SCENARIO [--engine jit|interp]

Exit code 0: as it should be; 1: not; 77: skipped, with a line "SKIP: why".
"run.py GANNET list" names the scenarios. Each scenario is a function here or
in one of the modules next to this file that SCENARIOS collects.
"""
import argparse
import signal
import sys

import boot
import clones
import control
import drives
import errors
import guest
import state
import state_disks
import network
import network_peers

SCENARIOS = {**boot.SCENARIOS, **drives.SCENARIOS, **errors.SCENARIOS, **state.SCENARIOS,
             **state_disks.SCENARIOS,
             **clones.SCENARIOS, **control.SCENARIOS, **network.SCENARIOS, **network_peers.SCENARIOS}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("gannet")
    parser.add_argument("scenario")
    parser.add_argument("--engine", default="jit")
    args = parser.parse_args()
    if args.scenario == "list":
        print("\n".join(sorted(SCENARIOS)))
        return 0
    # What a test runner sends at its time limit must not leave machines behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        SCENARIOS[args.scenario](args.gannet, args.engine)
    except guest.Skip as why:
        print(f"SKIP: {why}")
        return 77
    except guest.Failure as failure:
        print(f"FAILED: {args.scenario}: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
