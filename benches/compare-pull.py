#!/usr/bin/env python3
"""Measures how long programs take to pull the same images from the same registry into an empty store.

    compare-pull.py make --registry 127.0.0.1:5000
    compare-pull.py pull --registry 127.0.0.1:5000 \\
        --program ours 'nscompose pull {image}' 'nscompose rmi {image}' \\
        --program podman 'podman pull --tls-verify=false {image}' 'podman rmi {image}' \\
        --program docker 'docker pull {image}' 'docker rmi {image}'

`make` puts images of the same size and different numbers of layers into a registry that speaks plain HTTP: the files of some
folders of this machine, in order, with fixed owners and times, compressed with gzip as `docker push` does. `pull` runs the
programs in turn, so that what else the machine does meets all of them, and removes what they pulled after each. What is
written to disk is flushed before each, and that is not counted. Figures are of whole processes; a daemon's processor time is
not among them. Read the ratios.
"""

import argparse
import gzip
import hashlib
import http.client
import io
import itertools
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tarfile
import time
import urllib.parse

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LARGEST = 64 << 20


def name(registry, layers, megabytes):
    return f"{registry}/bench/pull:{megabytes}m-{layers}"


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def files(folders):
    """Regular files and links of folders, always in the same order."""
    for folder in folders:
        for path, below, names in os.walk(folder):
            below.sort()
            for entry in sorted(names):
                file = pathlib.Path(path, entry)
                if file.is_symlink() or (file.is_file() and file.stat().st_size <= LARGEST):
                    yield file


def layer(source, size):
    """An archive of about so many bytes of the files that come next."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in source:
            member = tar.gettarinfo(file)
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            if member.isfile():
                with file.open("rb") as content:
                    tar.addfile(member, content)
            else:
                tar.addfile(member)
            if archive.tell() >= size:
                break
        else:
            sys.exit("there is not that much in the folders")
    return archive.getvalue()


def request(registry, method, path, body=None, kind="application/octet-stream"):
    connection = http.client.HTTPConnection(registry)
    connection.request(method, path, body, {"Content-Type": kind} if body is not None else {})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {said.decode(errors='replace')}")
    return answer.headers


def push(registry, repository, blob):
    begun = request(registry, "POST", f"/v2/{repository}/blobs/uploads/", b"")
    to = urllib.parse.urlsplit(begun["Location"])
    query = "&".join(filter(None, [to.query, urllib.parse.urlencode({"digest": digest(blob)})]))
    request(registry, "PUT", f"{to.path}?{query}", blob)


def make(arguments):
    for layers in arguments.layers:
        source = iter(files(arguments.source))
        image = name(arguments.registry, layers, arguments.megabytes)
        repository, tag = image.removeprefix(arguments.registry + "/").rsplit(":", 1)
        described, diff_ids = [], []
        for _ in range(layers):
            archive = layer(source, arguments.megabytes * 1_000_000 // layers)
            blob = gzip.compress(archive, compresslevel=6, mtime=0)
            push(arguments.registry, repository, blob)
            kind = "application/vnd.oci.image.layer.v1.tar+gzip"
            described.append({"mediaType": kind, "digest": digest(blob), "size": len(blob)})
            diff_ids.append(digest(archive))
        config = {
            "architecture": arguments.architecture,
            "os": "linux",
            "config": {"Cmd": ["sleep", "infinity"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        config = json.dumps(config).encode()
        push(arguments.registry, repository, config)
        kind = "application/vnd.oci.image.config.v1+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": kind, "digest": digest(config), "size": len(config)},
            "layers": described,
        }
        request(arguments.registry, "PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest).encode(), MANIFEST)
        print(f"{image}: {sum(one['size'] for one in described) / 1e6:.0f} MB compressed")


def run(command, image):
    """Seconds on the clock, and of the processor."""
    words = [word.replace("{image}", image) for word in shlex.split(command)]
    start = time.perf_counter()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode != 0:
        sys.exit(f"{' '.join(words)}: {said.decode(errors='replace')}")
    return wall, used.ru_utime + used.ru_stime


def pull(arguments):
    first = arguments.program[0][0]
    print(f"{'layers':>6} {'program':>10} {'median s':>9} {'least s':>8} {'processor s':>12} {'to ' + first:>10}")
    for layers in arguments.layers:
        image = name(arguments.registry, layers, arguments.megabytes)
        taken = {program: [] for program, _, _ in arguments.program}
        for _, (program, get, remove) in itertools.product(range(arguments.rounds), arguments.program):
            os.sync()
            taken[program].append(run(get, image))
            run(remove, image)
        ours = statistics.median(wall for wall, _ in taken[first])
        for program, rounds in taken.items():
            walls, used = zip(*rounds)
            wall = statistics.median(walls)
            print(f"{layers:6} {program:>10} {wall:9.2f} {min(walls):8.2f} {min(used):12.2f} {wall / ours:10.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["make", "pull"])
    parser.add_argument("--registry", required=True, help="host and port")
    parser.add_argument("--layers", default=[1, 20], type=lambda text: [int(one) for one in text.split(",")])
    parser.add_argument("--megabytes", type=int, default=500, help="size of an image, unpacked")
    parser.add_argument("--source", action="append", help="a folder with files for the images; /usr/bin and /usr/share")
    parser.add_argument("--architecture", default={"aarch64": "arm64"}.get(os.uname().machine, "amd64"))
    parser.add_argument("--program", action="append", nargs=3, metavar=("NAME", "PULL", "REMOVE"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    arguments.source = arguments.source or ["/usr/bin", "/usr/share"]
    if arguments.action == "make":
        make(arguments)
    elif arguments.program:
        pull(arguments)
    else:
        parser.error("no --program is given")


if __name__ == "__main__":
    main()
