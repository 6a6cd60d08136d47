"""Runs programs of Debian packages that are unpacked and not installed, because mail servers exclude one another there.

`apt-get download PACKAGE` and `dpkg -x FILE $BENCH_CACHE/NAME` unpack one. It runs in a mount namespace of its own,
where /etc is a copy that has the package's users and libraries. Only root can do that.
"""
import ctypes
import os
import pwd
import shutil
import subprocess

import contract

PR_SET_CHILD_SUBREAPER = 36
FIRST_USER = 61000


def home(name):
    return os.path.join(contract.CACHE, name)


def obstacle(name, program):
    """Why it cannot run here, or nothing."""
    if not os.path.exists(os.path.join(home(name), program)):
        return f"not unpacked in {home(name)} (see unpacked.py)"
    return "must be started by root" if os.geteuid() else ""


def user_number(place):
    """The number of the namespace's user at this place; nobody else has it."""
    number = FIRST_USER + place
    try:
        taken = pwd.getpwuid(number).pw_name
    except KeyError:
        return number
    raise SystemExit(f"user number {number} belongs to {taken}")


def enter(wishes, name, users, mounts, command):
    """Starts a program in its namespace. `mounts` are directories or files to be seen at other places."""
    etc = wishes.path("etc")
    if not os.path.exists(etc):
        shutil.copytree("/etc", etc, symlinks=True, ignore_dangling_symlinks=True)
        for place, user in enumerate(users):
            number = user_number(place)
            with open(os.path.join(etc, "passwd"), "a") as file:
                file.write(f"{user}:x:{number}:{number}::/:/usr/sbin/nologin\n")
            with open(os.path.join(etc, "group"), "a") as file:
                file.write(f"{user}:x:{number}:\n")
        os.makedirs(os.path.join(etc, "ld.so.conf.d"), exist_ok=True)
        with open(os.path.join(etc, "ld.so.conf.d", "unpacked.conf"), "w") as file:
            file.write(os.path.join(home(name), "usr/lib", f"{os.uname().machine}-linux-gnu") + "\n")
    for source, target in mounts:
        if target.startswith("/etc/") and not os.path.exists(wishes.path(target[1:])):
            os.makedirs(os.path.dirname(wishes.path(target[1:])), exist_ok=True)
            shutil.copy(source, wishes.path(target[1:]))
    script = ["set -e", f"mount --bind {etc} /etc", "ldconfig -X"]
    script += [f"mount --bind {source} {target}" for source, target in mounts if not target.startswith("/etc/")]
    script.append('exec "$@"')
    return contract.launch(wishes, "unshare", "-m", "sh", "-c", "\n".join(script), "sh", *command, before=adopt)


def adopt():
    """Descendants whose parents end become children of this process, also behind exec, so that they are accounted for."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def open_path(path):
    """Other users may pass through here, as far as the directory is ours."""
    os.chmod(path, 0o755)


def run_first_line(name, program, *arguments):
    libraries = os.path.join(home(name), "usr/lib", f"{os.uname().machine}-linux-gnu")
    return contract.first_line(os.path.join(home(name), program), *arguments, environment={**os.environ, "LD_LIBRARY_PATH": libraries})


def package_version(name):
    """The version that the unpacked change log names."""
    folder = os.path.join(home(name), "usr/share/doc")
    for place, _, files in os.walk(folder):
        if "changelog.Debian.gz" in files:
            text = subprocess.run(["zcat", os.path.join(place, "changelog.Debian.gz")], capture_output=True, text=True).stdout
            return text.partition("(")[2].partition(")")[0]
    return ""
