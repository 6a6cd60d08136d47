"""What the adapters share: the rig's wishes from the environment, and starting, awaiting and ending processes.

An adapter in another language needs none of this; README.md has the contract.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import time

# Where programs are that are not installed.
CACHE = os.environ.get("BENCH_CACHE", os.path.join(os.path.expanduser("~"), ".cache", "mtad-bench"))
STARTS_MAX, START_SECONDS, STOP_SECONDS = 3, 60, 60


class Wishes:
    """What the rig asks of `start`; the other verbs get the same environment."""

    def __init__(self, environment):
        self.directory = environment["BENCH_DIRECTORY"]
        self.port = int(environment["BENCH_PORT"])
        self.spare_port = int(environment["BENCH_SPARE_PORT"])
        self.next_hop = environment["BENCH_NEXT_HOP"]
        pairs = [pair.partition("=") for pair in environment.get("BENCH_ROUTES", "").split(",") if pair]
        self.routes = [(suffix, hop) for suffix, _, hop in pairs]
        self.sessions = int(environment.get("BENCH_SESSIONS", 100))
        self.connections = int(environment.get("BENCH_CONNECTIONS", 100))
        self.retry = int(environment.get("BENCH_RETRY", 0))

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w") as file:
            file.write(text)
        return path


def serve(description, start, queued, stop=None):
    """Answers the verb of the command line. `start` returns the first process and the paths of its configuration."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb == "describe":
        print(json.dumps(description()))
        return
    wishes = Wishes(os.environ)
    if verb == "start":
        print(json.dumps(started(wishes, start)))
    elif verb == "stop":
        (stop or terminate)(wishes)
    elif verb == "kill":
        kill(wishes)
    elif verb == "queue":
        print(queued(wishes))
    else:
        raise SystemExit("usage: describe | start | stop | kill | queue")


def started(wishes, start):
    """Starts it as a supervisor does: again if it ends before it listens, a few times."""
    for _ in range(STARTS_MAX):
        pid, configuration = start(wishes)
        wishes.write("adapter.pid", str(pid))
        if listens(wishes, pid):
            return {"pids": [pid], "configuration": configuration}
        kill(wishes)
        time.sleep(0.1)
    try:
        with open(wishes.path("output.log"), errors="replace") as log:
            output = log.read()[-2000:]
    except OSError:
        output = ""
    raise SystemExit(f"nothing listens at port {wishes.port}; the relay said:\n{output}")


def first_line(*command, environment=None):
    """The first line that a command prints on either output, or None if it cannot be run."""
    try:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (ended.stdout.splitlines() or [""])[0]


def launch(wishes, *command, before=None, environment=None):
    """Starts a daemon that stays in the foreground, apart from the adapter, with its output in a file."""
    with open(wishes.path("output.log"), "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=wishes.directory,
                                   start_new_session=True, preexec_fn=before, env=environment)
    return process.pid


def listens(wishes, pid):
    """Waits until the relay takes connections; false if it ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and is_alive(pid):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", wishes.port)) == 0:
                return True
        time.sleep(0.01)
    return False


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def tree(pid):
    """The process and all below it."""
    found, unseen = [], [pid]
    while unseen:
        current = unseen.pop()
        found.append(current)
        try:
            for task in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{task}/children") as file:
                    unseen += [int(child) for child in file.read().split()]
        except OSError:
            pass
    return found


def first_pid(wishes):
    try:
        with open(wishes.path("adapter.pid")) as file:
            return int(file.read())
    except OSError:
        return None


def signal_all(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def terminate(wishes):
    """SIGTERM to the first process; what is left after a while is killed."""
    pid = first_pid(wishes)
    if pid is None:
        return
    members = tree(pid)
    signal_all([pid], signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while any(map(is_alive, members)):
        if time.monotonic() > deadline:
            signal_all(filter(is_alive, members), signal.SIGKILL)
        time.sleep(0.02)


def kill(wishes):
    """SIGKILL to all processes at once, stopped first so that none can start another."""
    pid = first_pid(wishes)
    if pid is None:
        return
    signal_all(tree(pid), signal.SIGSTOP)
    members = tree(pid)
    signal_all(members, signal.SIGKILL)
    while any(map(is_alive, members)):
        time.sleep(0.005)
