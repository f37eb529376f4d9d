#!/usr/bin/env python3
"""Measures networks of containers: nscompose beside Docker Engine and rootless Podman, on one machine in one run.

    compare-network.py --tree FOLDER --nscompose target/release/nscompose --user NAME

FOLDER is a root file system with the programs to compare, for example

    mmdebstrap --variant=minbase --include=docker.io,docker-cli,podman,crun,passt,netavark,aardvark-dns,iproute2,iptables,\
nftables,uidmap,procps,python3,iperf3 sid FOLDER

and NAME an account with ranges in /etc/subuid and /etc/subgid. Needs root. All of it happens in namespaces of their own: mounts,
processes and network, so that nothing is left on this machine but the account, images and layers below FOLDER.

Each contestant has a network namespace that is its host, with a loopback, the address 192.0.2.1 and a neighbour at 192.0.2.2, and in it
two containers on one network, which have the tree's /usr. All stacks are up all the time. Each round measures each path for one
contestant after the other, so that what else the machine does meets all of them. Figures are the best and the median of all rounds.

    ours            root: a veth pair and nftables
    ours-forwarder  root: no uplink, so that the built-in forwarder serves every published port
    docker          root: with its defaults, that is, iptables and docker-proxy
    ours-user       NAME: pasta and the built-in forwarder
    podman-user     NAME: a network of netavark, pasta and rootlessport

    containers      from one container to another of the same network, by name
    loopback        from the host to 127.0.0.1 and a published port
    address         from the host to 192.0.2.1 and a published port
    neighbour       from another machine to 192.0.2.1 and a published port
    host            from a container to a server on the host, by the name host.docker.internal

    tcp             iperf3, one connection, Gbit/s
    back            the same, the other way
    ping            microseconds for a byte there and back on one connection, median
    connects        connections per second, one after the other: connect, a byte there and back, close
    udp ping        as ping, in datagrams
    udp             iperf3, datagrams of 1,400 bytes as fast as they can be sent: thousands that arrive in a second
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT, USER = ["ours", "ours-forwarder", "docker"], ["ours-user", "podman-user"]
PATHS = ["containers", "loopback", "address", "neighbour", "host"]
FIGURES = ["tcp", "back", "ping", "connects", "udp ping", "udp"]
LESS_IS_BETTER = {"ping", "udp ping"}
IPERF, REQUESTS, DATAGRAMS = 7001, 7002, 7003
# Where the servers on the host itself listen: their usual ports are published.
OF_HOST = 100
HERE = "/bench"

ENTER = r"""
mount --make-rprivate /
mount --bind "$TREE" "$TREE"
cd "$TREE"
mkdir -p bench old
mount -t proc proc proc
mount --rbind /sys sys
umount -l sys/class/net 2>/dev/null || :
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    # A hybrid tree confuses crun.
    umount -l sys/fs/cgroup
    mount -t tmpfs tmpfs sys/fs/cgroup
    for c in cpu cpuacct cpuset memory devices freezer blkio pids systemd; do
        [ ! -d /sys/fs/cgroup/$c ] || { mkdir -p sys/fs/cgroup/$c; mount --bind /sys/fs/cgroup/$c sys/fs/cgroup/$c; }
    done
fi
mount --rbind /dev dev
for f in run home tmp; do mount -t tmpfs -o mode=0755 tmpfs $f; done
chmod 1777 tmp
# The account, as it is here.
for f in passwd group subuid subgid; do
    grep -q "^$ACCOUNT:" etc/$f || grep "^$ACCOUNT:" /etc/$f >>etc/$f
done
mount -t tmpfs -o mode=0755 tmpfs bench
cp "$SCRIPT" bench/compare-network.py
cp "$NSCOMPOSE" bench/nscompose
chmod 0755 bench/*
pivot_root . old
umount -l /old
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PODMAN_IGNORE_CGROUPSV1_WARNING=1 \
    python3 -B /bench/compare-network.py "$@"
"""


def run(*words, **options):
    done = subprocess.run(words, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=180, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


# What runs in containers and on the host.


def serve(shift):
    """The other side of everything, for ever."""
    subprocess.Popen(["iperf3", "-s", "-p", str(IPERF + shift)], stdout=subprocess.DEVNULL)
    if os.fork() == 0:
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("", DATAGRAMS + shift))
        while True:
            datagrams.sendto(*datagrams.recvfrom(2048))
    listener = socket.create_server(("", REQUESTS + shift), backlog=1024)
    while True:
        client, _ = listener.accept()
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while byte := client.recv(1):
                client.sendall(byte)
        except OSError:
            pass
        client.close()


def round_trips(there, kind, count):
    """Microseconds, median."""
    connection = socket.socket(socket.AF_INET, kind)
    connection.settimeout(2)
    connection.connect(there)
    if kind == socket.SOCK_STREAM:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken = []
    for _ in range(count):
        start = time.perf_counter_ns()
        connection.send(b"x")
        connection.recv(1)
        taken.append(time.perf_counter_ns() - start)
    return statistics.median(taken) / 1000


def connections(there, count):
    """In a second."""
    start = time.perf_counter()
    for _ in range(count):
        with socket.create_connection(there, timeout=5) as connection:
            connection.send(b"x")
            connection.recv(1)
    return count / (time.perf_counter() - start)


def iperf(host, port, seconds, *more):
    end = json.loads(run("iperf3", "-c", host, "-p", str(port), "-t", str(seconds), "-J", *more))["end"]
    if "-u" in more:
        got = end.get("sum_received") or end["sum"]
        return (got["packets"] - got["lost_packets"]) / got["seconds"] / 1e3
    return end["sum_received"]["bits_per_second"] / 1e9


def measure(host, shift, seconds, figure):
    """Prints what was found."""
    host = socket.gethostbyname(host)
    ways = {
        "tcp": lambda: iperf(host, IPERF + shift, seconds),
        "back": lambda: iperf(host, IPERF + shift, seconds, "-R"),
        "ping": lambda: round_trips((host, REQUESTS + shift), socket.SOCK_STREAM, 5000),
        "connects": lambda: connections((host, REQUESTS + shift), 1500),
        "udp ping": lambda: round_trips((host, DATAGRAMS + shift), socket.SOCK_DGRAM, 5000),
        "udp": lambda: iperf(host, IPERF + shift, seconds, "-u", "-b", "0", "-l", "1400"),
    }
    print(json.dumps(ways[figure]()))


# The contestants.


class Contestant:
    """Two containers on a network, in a network namespace that is their host."""

    def __init__(self, name, user):
        self.name, self.user = name, user if name in USER else None
        self.nsenter = ["nsenter", f"--net=/run/netns/{name}"]
        self.folder = pathlib.Path(HERE, name)
        self.folder.mkdir()
        self.broken = set()

    def host(self):
        """Makes the host and its neighbour."""
        other = f"{self.name}-n"
        for namespace in (self.name, other):
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", self.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", other)
        for namespace, address in ((self.name, "192.0.2.1/24"), (other, "192.0.2.2/24")):
            run("ip", "-n", namespace, "address", "add", address, "dev", "eth0")
            run("ip", "-n", namespace, "link", "set", "eth0", "up")
        run("ip", "-n", self.name, "route", "add", "default", "via", "192.0.2.2")
        subprocess.Popen([*self.nsenter, *SELF, "serve", str(OF_HOST)], stdout=subprocess.DEVNULL)

    def command(self, *words):
        """As it is to be run on the host."""
        if self.user is None:
            return [*self.nsenter, *words]
        identity = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--init-groups"]
        runtime = pathlib.Path("/run/user", str(self.user.pw_uid))
        for folder in (runtime, pathlib.Path(self.user.pw_dir)):
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(0o700)
                os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        environment = [f"HOME={self.user.pw_dir}", f"USER={self.user.pw_name}", f"XDG_RUNTIME_DIR={runtime}"]
        return [*self.nsenter, *identity, "env", *environment, *words]

    def run(self, *words):
        return run(*self.command(*words), cwd=self.folder)

    def measure(self, path, seconds, figure):
        """What is measured on one path; nothing where it does not exist, or nobody answers."""
        if path == "host" and self.name == "ours-forwarder" or (path, figure) in self.broken:
            return None
        there = {"containers": "server", "loopback": "127.0.0.1", "host": "host.docker.internal"}.get(path, "192.0.2.1")
        shift = str(OF_HOST if path == "host" else 0)
        words = [*SELF, "measure", there, shift, str(seconds), figure]
        if path in ("containers", "host"):
            words = self.command(*self.inside, *words)
        else:
            namespace = self.name + ("-n" if path == "neighbour" else "")
            words = ["nsenter", f"--net=/run/netns/{namespace}", *words]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=self.folder)
        if done.returncode == 0:
            return json.loads(done.stdout)
        print(f"{self.name}, {path}, {figure}: {done.stderr.strip()[-300:]}", file=sys.stderr, flush=True)
        self.broken.add((path, figure))
        return None


class Ours(Contestant):
    inside = [f"{HERE}/nscompose", "exec", "client"]

    def up(self):
        without = "x-nscompose: {uplink: none}\n" if self.name == "ours-forwarder" else ""
        ports = [f"{IPERF}:{IPERF}", f"{IPERF}:{IPERF}/udp", f"{REQUESTS}:{REQUESTS}", f"{DATAGRAMS}:{DATAGRAMS}/udp"]
        (self.folder / "compose.yaml").write_text(
            f"name: {self.name}\n{without}services:\n"
            f"  server: {{rootfs: host, volumes: ['{HERE}:{HERE}:ro'], command: {json.dumps([*SELF, 'serve', '0'])}, "
            f"ports: {json.dumps(ports)}}}\n"
            f"  client: {{rootfs: host, volumes: ['{HERE}:{HERE}:ro'], command: sleep infinity}}\n"
        )
        print(self.run(f"{HERE}/nscompose", "up", "-d"), end="")

    def down(self):
        self.run(f"{HERE}/nscompose", "down")


class Theirs(Contestant):
    def up(self):
        self.start()
        # Of a run that was interrupted.
        for left in (["rm", "-f", "server", "client"], ["network", "rm", "bench"]):
            subprocess.run(self.command(self.program, *left), capture_output=True, cwd=self.folder)
        self.run(self.program, "import", "/bench/empty.tar", "bench")
        self.run(self.program, "network", "create", "bench")
        ports = [f"{IPERF}:{IPERF}", f"{IPERF}:{IPERF}/udp", f"{REQUESTS}:{REQUESTS}", f"{DATAGRAMS}:{DATAGRAMS}/udp"]
        always = ["run", "-d", "--network", "bench", "-v", "/usr:/usr:ro", "-v", f"{HERE}:{HERE}:ro", *self.more]
        publish = [word for port in ports for word in ("-p", port)]
        self.run(self.program, *always, "--name", "server", *publish, "bench", *SELF, "serve", "0")
        self.run(self.program, *always, "--name", "client", "bench", "sleep", "infinity")

    def down(self):
        self.run(self.program, "kill", "server", "client")
        self.run(self.program, "rm", "-f", "server", "client")
        self.run(self.program, "network", "rm", "bench")
        self.run(self.program, "rmi", "bench")


class Docker(Theirs):
    program = "docker"
    inside = ["docker", "exec", "client"]
    more = ["--add-host", "host.docker.internal:host-gateway"]

    def start(self):
        self.groups = {*pathlib.Path("/sys/fs/cgroup").glob("*/docker"), *pathlib.Path("/sys/fs/cgroup").glob("docker")}
        log = open(self.folder / "log", "w")
        self.daemon = subprocess.Popen(self.command("dockerd"), stdout=log, stderr=log)
        for _ in range(100):
            if subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
                return
            time.sleep(0.2)
        raise RuntimeError(pathlib.Path(log.name).read_text()[-2000:])

    def down(self):
        super().down()
        self.daemon.terminate()
        self.daemon.wait()
        # It leaves its own.
        for folder in {*pathlib.Path("/sys/fs/cgroup").glob("*/docker"), pathlib.Path("/sys/fs/cgroup/docker")} - self.groups:
            if folder.exists():
                folder.rmdir()


class Podman(Theirs):
    program = "podman"
    inside = ["podman", "exec", "client"]
    more = []

    def start(self):
        pass


SELF = ["python3", "-B", f"{HERE}/compare-network.py"]


def inside(arguments):
    import pwd
    import tarfile

    os.nice(arguments.nice)

    with tarfile.open(f"{HERE}/empty.tar", "w") as tar:
        for folder in ("usr", "bench", "tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for link in ("bin", "sbin", "lib", "lib64"):
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{link}"
            tar.addfile(entry)
    kinds = {"docker": Docker, "podman-user": Podman}
    user = pwd.getpwnam(arguments.user)
    contestants = [kinds.get(name, Ours)(name, user) for name in arguments.contestants]
    for contestant in contestants:
        if contestant.user:
            os.chown(contestant.folder, user.pw_uid, user.pw_gid)
    up = []
    found = {}
    try:
        for contestant in contestants:
            contestant.host()
            contestant.up()
            up.append(contestant)
            print(f"{contestant.name} is up", flush=True)
        if arguments.shell:
            subprocess.run(["bash"])
        time.sleep(1)
        for number in range(arguments.rounds):
            for path in arguments.paths:
                for figure in arguments.figures:
                    # Each is the first in turn.
                    turn = number % len(up)
                    for contestant in up[turn:] + up[:turn]:
                        value = contestant.measure(path, arguments.seconds, figure)
                        if value is not None:
                            found.setdefault((path, figure), {}).setdefault(contestant.name, []).append(value)
            print(f"round {number + 1}, load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        for contestant in up:
            try:
                contestant.down()
            except Exception as error:
                print(error, file=sys.stderr)
    table(arguments, found)


def table(arguments, found):
    """Best (median) of each, and what it is to ours: more than 1 means that ours is better."""
    print(f"{'path':>10} {'figure':>9} " + " ".join(f"{name:>24}" for name in arguments.contestants))
    for path in arguments.paths:
        for figure in arguments.figures:
            values = found.get((path, figure), {})
            best = {name: (min if figure in LESS_IS_BETTER else max)(all_) for name, all_ in values.items()}
            cells = []
            for name in arguments.contestants:
                if name not in best:
                    cells.append(f"{'-':>24}")
                    continue
                first = "ours-user" if name in USER else "ours"
                ratio = ""
                if first in best and name != first:
                    ratio = best[name] / best[first] if figure in LESS_IS_BETTER else best[first] / best[name]
                    ratio = f"{ratio:.2f}"
                digits = 0 if best[name] >= 1000 else 1
                text = f"{best[name]:.{digits}f} ({statistics.median(values[name]):.{digits}f})"
                cells.append(f"{text:>18} {ratio:>5}")
            print(f"{path:>10} {figure:>9} " + " ".join(cells))


def main():
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    if sys.argv[1:2] == ["measure"]:
        return measure(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda text: text.split(",")
    parser.add_argument("--tree", required=True, help="a root file system with the programs to compare")
    parser.add_argument("--nscompose", required=True)
    parser.add_argument("--user", required=True, help="an account with ranges of ids")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of each iperf3")
    parser.add_argument("--nice", type=int, default=0, help="of everything that is measured; less than 0 where others compute")
    parser.add_argument("--contestants", type=words, default=ROOT + USER)
    parser.add_argument("--paths", type=words, default=PATHS)
    parser.add_argument("--figures", type=words, default=FIGURES)
    parser.add_argument("--shell", action="store_true", help="a shell between up and the first round, to look around")
    parser.add_argument("--is-inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.is_inside:
        return inside(arguments)
    environment = {
        **os.environ,
        "TREE": os.path.realpath(arguments.tree),
        "ACCOUNT": arguments.user,
        "SCRIPT": os.path.realpath(__file__),
        "NSCOMPOSE": os.path.realpath(arguments.nscompose),
    }
    # The first process of the namespace: with it everything ends.
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    done = subprocess.run([*unshare, "sh", "-euc", ENTER, "sh", *sys.argv[1:], "--is-inside"], env=environment)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
