#!/usr/bin/env python3
"""Measures two commands side by side that print what a Compose file of N services comes to.

    compare-config.py 'nscompose config --format json' 'docker compose config --format json'

Each command is run in a folder with a compose.yaml, in turn with the other, so that what else the machine does meets both.
The figures are the medians of whole processes; read the ratios.
"""

import argparse
import pathlib
import shlex
import statistics
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).parent / "project"


def project(services):
    service = (HERE / "service.yaml").read_text()
    text = (HERE / "head.yaml").read_text()
    for n in range(1, services + 1):
        text += service.replace("@N@", str(n)).replace("@BEFORE@", str(n - 1))
    return text


def milliseconds(command, folder):
    start = time.perf_counter()
    subprocess.run(shlex.split(command), cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("theirs")
    parser.add_argument("--services", default="1,100,1000", help="how many, separated by commas")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--folder", help="where the files are made, if not in the usual place for temporary files")
    arguments = parser.parse_args()
    print(f"{'services':>8} {'ours ms':>9} {'theirs ms':>9} {'ratio':>6}")
    for services in map(int, arguments.services.split(",")):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            (pathlib.Path(folder) / "compose.yaml").write_text(project(services))
            pairs = [
                (milliseconds(arguments.ours, folder), milliseconds(arguments.theirs, folder))
                for _ in range(arguments.rounds)
            ]
        ours, theirs = (statistics.median(times) for times in zip(*pairs))
        print(f"{services:8} {ours:9.1f} {theirs:9.1f} {theirs / ours:6.1f}")


if __name__ == "__main__":
    main()
