#!/usr/bin/env python3
"""Measures name servers of containers, each from within a container's network: answers per second, latency, processor time.

    compare-dns.py --rounds 3 --seconds 3 \\
        --server ours CONTAINER_PID SUPERVISOR_PID 127.0.0.11 \\
        --server docker CONTAINER_PID DOCKERD_PID 127.0.0.11 \\
        --question ours,docker 'a local name' 'db A' \\
        --question ours,docker 'forwarded' 'www.bench.test A'

CONTAINER_PID is a process in the network that is asked from, SERVER_PID the process that answers, whose processor time is
counted. Needs root, nsenter(1) and dnsperf(1), which has 50 questions in flight for the first figure and one for the latency. Each
question is asked of its servers in turn, so that what else the machine does meets all of them. Medians. The processor time of
an answer is the steadiest figure on a busy machine; it has what the kernel does for the process in it.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(server, question, flying, seconds):
    _, inside, answers, address = server
    with tempfile.NamedTemporaryFile("w", suffix=".dns") as file:
        file.write(question + "\n")
        file.flush()
        before = processor_seconds(answers)
        command = ["nsenter", f"--net=/proc/{inside}/ns/net", "dnsperf", "-s", address, "-d", file.name]
        command += ["-l", str(seconds), "-q", str(flying), "-c", str(min(flying, 8)), "-t", "2"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        used = processor_seconds(answers) - before

    def figure(label):
        return float(re.search(label + r":\s+([0-9.]+)", shown).group(1))

    done, lost = figure("Queries completed"), figure("Queries lost")
    if lost > 0 or not re.search(r"Response codes:\s+NOERROR [0-9]+ \(100.00%\)", shown):
        print(f"{server[0]}: {question}: not all are answered\n{shown}", file=sys.stderr)
    return figure("Queries per second"), figure(r"Average Latency \(s\)") * 1e6, used / max(done, 1) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--server", nargs=4, action="append", required=True, metavar=("NAME", "IN", "PID", "ADDRESS"))
    parser.add_argument("--question", nargs=3, action="append", required=True, metavar=("SERVERS", "WHAT", "QUESTION"))
    args = parser.parse_args()
    servers = {server[0]: server for server in args.server}
    found = {}
    for _ in range(args.rounds):
        for names, what, question in args.question:
            for name in names.split(","):
                many = ask(servers[name], question, 50, args.seconds)
                one = ask(servers[name], question, 1, args.seconds)
                found.setdefault((what, name), []).append((many[0], many[2], one[1]))
    print(f"{'':16} {'':10} {'answers/s':>10} {'ratio':>6} {'CPU us':>8} {'ratio':>6} {'latency us':>10} {'ratio':>6}")
    first = {}
    for (what, name), rounds in found.items():
        medians = [statistics.median(column) for column in zip(*rounds)]
        base = first.setdefault(what, medians)
        answers, used, latency = medians
        print(
            f"{what:16} {name:10} {answers:10.0f} {base[0] / answers:6.2f} {used:8.1f} {used / max(base[1], 0.01):6.2f}"
            f" {latency:10.0f} {latency / base[2]:6.2f}"
        )


if __name__ == "__main__":
    main()
