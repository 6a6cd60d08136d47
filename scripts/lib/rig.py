"""What the longer runs share: starting and stopping relays and peers, and what they cost. Loopback only."""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
PROFILE = os.environ.get("MTAD_PROFILE", "release")
MTAD = os.path.join(TARGET, PROFILE, "mtad")
BENCH = os.path.join(TARGET, PROFILE, "mtad-bench")
# Being told to stop is an ordinary end, in which everything that was started is stopped.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def work_directory(name):
    """A fresh directory on the disk that holds the build, so that every relay's queue is on the same disk."""
    base = os.path.join(TARGET, "runs")
    os.makedirs(base, exist_ok=True)
    return tempfile.mkdtemp(prefix=f"{name}-", dir=base)


def remove(directory):
    shutil.rmtree(directory, ignore_errors=True)


def free_port():
    """A port that nobody uses, with the one 1000 above it, and out of the range from which connections get theirs."""
    for _ in range(1000):
        port = random.randrange(10000, 30000)
        try:
            for candidate in (port, port + 1000):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", candidate))
            return port
        except OSError:
            pass
    raise SystemExit("no free port found")


def is_open(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def await_port(port, seconds=20):
    deadline = time.monotonic() + seconds
    while not is_open(port):
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing listens at 127.0.0.1:{port} after {seconds} s")
        time.sleep(0.02)


def stop(process, seconds=40):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def device_bytes(pid):
    """Bytes that the process has caused to be written to a device."""
    with open(f"/proc/{pid}/io") as file:
        return int(re.search(r"^write_bytes: (\d+)", file.read(), re.M).group(1))


class Sink:
    """Postfix's smtp-sink."""

    def __init__(self, directory, port):
        self.log = os.path.join(directory, "sink.log")
        with open(self.log, "wb") as log:
            command = ["smtp-sink", "-u", "nobody", "-c", f"127.0.0.1:{port}", "1000"]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        await_port(port)

    def messages(self):
        with open(self.log, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 200))
            counts = re.findall(rb"mesg=\s*(\d+)", log.read())
        return int(counts[-1]) if counts else 0

    def await_messages(self, count, seconds):
        deadline = time.monotonic() + seconds
        while self.messages() < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"the sink has {self.messages()} of {count} messages after {seconds} s")
            time.sleep(0.005)

    def stop(self):
        self.process.kill()
        self.process.wait()


def source(port, messages, sessions=100, size=4096, persistent=True, sender="a@load.example", to="b@d0.example"):
    """Postfix's smtp-source: returns the seconds that it took to hand in all messages."""
    command = ["smtp-source", "-s", str(sessions), "-m", str(messages), "-l", str(size), "-f", sender, "-t", to]
    command += (["-d"] if persistent else []) + [f"127.0.0.1:{port}"]
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


class Mtad:
    """A relay of ours, with one route to a sink unless `extra` has others."""
    name = "mtad"

    def __init__(self, directory, port, sink=None, shards="auto", extra="", delivery="", spool="spool", clients="127.0.0.0/8", limits=""):
        self.directory, self.port, self.shards = directory, port, str(shards)
        self.file = os.path.join(directory, f"{spool}.toml")
        self.metrics, self.refused_starts = port + 1000, 0
        with open(self.file, "w") as file:
            file.write(f"""
hostname = "relay.example"
[spool]
path = "{os.path.join(directory, spool)}"
{limits}
[[listen]]
address = "127.0.0.1:{port}"
relay_from = ["{clients}"]
[delivery]
{delivery}
[metrics]
address = "127.0.0.1:{self.metrics}"
""")
            file.write(extra or route("*", sink))
        self.start()

    def start(self):
        """Starts it as a supervisor does: again after 100 ms if it ends before it listens, a few times."""
        for _ in range(5):
            self.launch()
            if self.listens():
                return
            self.kill()
            self.refused_starts += 1
            time.sleep(0.1)
        with open(os.path.join(self.directory, "mtad.log")) as log:
            raise SystemExit(f"the relay does not start:\n{log.read()[-2000:]}")

    def listens(self, seconds=20):
        """Waits until it takes mail and tells its metrics; false if it has ended instead."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            if is_open(self.port) and is_open(self.metrics):
                return self.process.poll() is None
            time.sleep(0.02)
        return False

    def launch(self):
        """Starts the process without waiting until it listens."""
        command = [MTAD, "--shards", self.shards, "--config", self.file, "--log-level", "error"]
        with open(os.path.join(self.directory, "mtad.log"), "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.pid = self.process.pid

    def stop(self):
        return stop(self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def get(self, path):
        """What the metrics server answers: status and body."""
        with socket.create_connection(("127.0.0.1", self.metrics), 5) as conn:
            conn.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            head, body = b"".join(iter(lambda: conn.recv(65536), b"")).decode().split("\r\n\r\n", 1)
        return int(head.split(" ", 2)[1]), body

    def metric(self, name, labels=""):
        """The sum of a metric over all shards, or over those lines whose labels begin so."""
        _, text = self.get("/metrics")
        return sum(float(value) for value in re.findall(rf"^mtad_{name}(?:\{{{labels}[^}}]*\}})? ([0-9.e+]+)\r?$", text, re.M))


def route(domain, port):
    return f'[[route]]\ndomain = "{domain}"\nto = ["127.0.0.1:{port}"]\n'


class Postfix:
    """Postfix as the rig's adapter sets it up, in a directory of its own below this one."""

    def __init__(self, directory, port, sink):
        self.adapter = os.path.join(ROOT, "bench", "adapters", "postfix")
        self.environment = {
            **os.environ, "BENCH_DIRECTORY": os.path.join(directory, "postfix"), "BENCH_PORT": str(port),
            "BENCH_SPARE_PORT": str(port + 1000), "BENCH_NEXT_HOP": f"127.0.0.1:{sink}"}
        os.makedirs(self.environment["BENCH_DIRECTORY"])
        self.call("start")

    def call(self, verb):
        ended = subprocess.run([self.adapter, verb], env=self.environment, capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(f"postfix {verb}: {ended.stderr}")

    def stop(self):
        self.call("stop")


class Bench:
    """A run of the rig beside whatever else happens; `report` waits for its end."""

    def __init__(self, directory, *arguments):
        self.output = os.path.join(directory, "bench.log")
        self.json = os.path.join(directory, "bench.json")
        with open(self.output, "w") as output:
            command = [BENCH, *map(str, arguments), "--json", self.json]
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def stop(self):
        stop(self.process, 5)

    def report(self, accepted=(0,), seconds=600):
        """The report. Any other status than those accepted ends the script with what the rig said."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            status = "no end"
        if status not in accepted:
            with open(self.output) as output:
                raise SystemExit(f"{output.read()}\nthe rig ended with {status} after {self.process.args}")
        with open(self.json) as file:
            return json.load(file)
