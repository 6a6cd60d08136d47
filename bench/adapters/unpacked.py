#!/usr/bin/env python3
"""Programs of Debian packages that are unpacked and not installed, because mail servers exclude one another there.

unpacked.py NAME PACKAGE...: downloads packages and unpacks them into BENCH_CACHE/NAME, without running anything of
theirs. What is in there runs in a mount namespace of its own, where /etc is a copy with the package's users and
libraries. Only root can do that.
"""
import ctypes
import os
import pwd
import shutil
import subprocess
import sys

import contract

PR_SET_CHILD_SUBREAPER = 36
# Far from the numbers that systems give to users of theirs.
FIRST_USER = 61000


def home(name):
    return os.path.join(contract.CACHE, name)


def obstacle(name, packages, program):
    """Why a program cannot run here, or nothing."""
    if not os.path.exists(os.path.join(home(name), program)):
        return f"not unpacked: bench/adapters/unpacked.py {name} {packages} does that"
    return "must be started by root" if os.geteuid() else ""


def version(name, package):
    """What the file of the package says."""
    files = os.listdir(home(name))
    return next((file.split("_")[1] for file in files if file.startswith(f"{package}_")), "")


def user_number(place):
    """The number of the namespace's user at this place, if nobody else has it."""
    number = FIRST_USER + place
    try:
        taken = pwd.getpwuid(number).pw_name
    except KeyError:
        return number
    raise SystemExit(f"user number {number} belongs to {taken}")


def enter(wishes, name, users, mounts, command):
    """Starts a program in its namespace. `mounts` are pairs: what is to be seen, and where."""
    etc = wishes.path("etc")
    if not os.path.exists(etc):
        shutil.copytree("/etc", etc, symlinks=True, ignore_dangling_symlinks=True)
        for place, user in enumerate(users):
            number = user_number(place)
            with open(os.path.join(etc, "passwd"), "a") as file:
                file.write(f"{user}:x:{number}:{number}::/:/usr/sbin/nologin\n")
            with open(os.path.join(etc, "group"), "a") as file:
                file.write(f"{user}:x:{number}:\n")
        with open(os.path.join(etc, "ld.so.conf"), "a") as file:
            file.write(f"{home(name)}/usr/lib/{os.uname().machine}-linux-gnu\n")
        for source, target in mounts:
            if target.startswith("/etc/"):
                place = wishes.path(target[1:])
                os.makedirs(os.path.dirname(place), exist_ok=True)
                shutil.copy(source, place)
    script = ["set -e", f"mount --bind {etc} /etc", "ldconfig -X"]
    script += [f"mount --bind {source} {target}" for source, target in mounts if not target.startswith("/etc/")]
    script.append('exec "$@"')
    return contract.launch(wishes, "unshare", "-m", "sh", "-c", "\n".join(script), "sh", *command, before=adopt)


def adopt():
    """Descendants whose parents end become children of this process, so that what they cost is not overlooked."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def unpack(name, packages):
    os.makedirs(home(name), exist_ok=True)
    subprocess.run(["apt-get", "download", *packages], cwd=home(name), check=True)
    for file in os.listdir(home(name)):
        if file.endswith(".deb"):
            subprocess.run(["dpkg", "-x", file, "."], cwd=home(name), check=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit("usage: unpacked.py NAME PACKAGE...")
    unpack(sys.argv[1], sys.argv[2:])
