"""Real Kafka brokers for tests: where to get one, how to break one, and how none is ever left behind.

Run as a script, `python tests/kafka_broker.py` says which kind would be used, with status 1 and the remedy if none.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Protocol, Self
from uuid import uuid4

HERE = Path(__file__).parent / "kafka"
SCRIPT = HERE / "broker.sh"
READY_S = 60

HOW_TO_GET_ONE = """\
No Kafka for the tests. Do one of these:
  - set KAFKA_BOOTSTRAP=host:port of a broker that the tests may make topics on;
  - start a Docker engine (`docker info` must work; the client alone is none);
  - install Java 17 or newer and Maven (Debian: apt-get install openjdk-17-jre-headless maven).
Without Kafka, `make test-quick` runs what needs none."""

# A Metadata request (version 1, no topics): a length, key 3, version 1, a correlation id, a client id, an empty array.
METADATA = bytes.fromhex("00000010 0003 0001 00000007 00027368 00000000")


class NoKafkaError(RuntimeError):
    """No broker can be had here; the message tells how to get one."""


class Broker(Protocol):
    """A broker of our own, which may be broken on purpose. Each method waits until it is done, and may be repeated."""

    bootstrap: str
    """host:port, the same for life, after a restart too."""
    made_by: str
    """What runs it, for the closing line."""

    def start(self) -> None:
        """Start it, or start it again after `stop` or `kill`, with its records; it answers when this returns."""

    def stop(self) -> None:
        """Stop it cleanly; the records stay."""

    def pause(self) -> None:
        """Let it hang: connections stay open and new ones succeed, nothing answers."""

    def resume(self) -> None:
        """Let it go on after `pause`."""

    def kill(self) -> None:
        """End it at once (SIGKILL)."""

    def mend(self) -> None:
        """Make it answer again, whatever was done to it."""

    def close(self) -> None:
        """End it, however it stands, and remove everything that was made for it."""


def version() -> str:
    """Return the version of Kafka that pom.xml names, which is the image's too."""
    found = re.search(r"<kafka\.version>(.*?)</", (HERE / "pom.xml").read_text())
    if found is None:
        raise AssertionError("pom.xml names kafka.version")
    return found[1]


def answers(bootstrap: str, *, within: float = 2.0) -> bool:
    """Tell whether a broker with at least one node in service answers a Metadata request there."""
    host, _, port = bootstrap.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=within) as wire, wire.makefile("rb") as reply:
            wire.sendall(METADATA)
            head = reply.read(12)
    except OSError:
        return False
    return len(head) == 12 and int.from_bytes(head[8:]) > 0


def free_port() -> int:
    """Return a port that is free now, as is the one 1,000 above it (the controller's), below the ephemeral ports."""
    for _ in range(100):
        port = random.randint(21_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1000))
            return port
    raise NoKafkaError("no free port for a broker between 21000 and 30000")


class Guard:
    """Runs a shell command when it is closed or when this process ends, however it ends: also by SIGKILL."""

    def __init__(self, *command: str) -> None:
        # The pipe's write end is ours alone; when we are gone the shell reads its end and goes on to the command.
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", 'cat; "$@"', "guard", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        if self._shell.stdin is not None:
            self._shell.stdin.close()
        self._shell.wait(timeout=READY_S)


class ScriptBroker:
    """A broker by tests/kafka/broker.sh: Java and Maven, nothing else."""

    def __init__(self, *, nodes: int = 1, settings: dict[str, str] | None = None) -> None:
        self.made_by = f"Apache Kafka {version()} by broker.sh"
        self._nodes = nodes
        self._settings = [word for key, value in (settings or {}).items() for word in ("--set", f"{key}={value}")]
        self._start_somewhere()

    def _start_somewhere(self) -> None:
        for attempt in range(3):
            port = free_port()
            self._folder = Path(tempfile.mkdtemp(prefix="polygate-kafka-"))
            self._where = ("--port", str(port), "--dir", str(self._folder / "data"))
            self._guard = Guard("/bin/sh", "-c", f'"{SCRIPT}" stop --wipe "$@"; rm -rf -- "{self._folder}"', "stop", *self._where)
            try:
                self.start()
            except NoKafkaError:
                # Between looking and starting, the port may have gone to somebody else.
                self.close()
                if attempt == 2:
                    raise
            else:
                self.bootstrap = ",".join(f"127.0.0.1:{port + node}" for node in range(self._nodes))
                return

    def start(self) -> None:
        self._run("start", "--nodes", str(self._nodes), *self._settings)

    def stop(self) -> None:
        self._run("stop")

    def pause(self) -> None:
        self._run("pause")

    def resume(self) -> None:
        self._run("resume")

    def kill(self) -> None:
        self._run("kill")

    def mend(self) -> None:
        with contextlib.suppress(NoKafkaError):  # one that was killed cannot go on
            self.resume()
        self.start()

    def node(self, command: str, number: int) -> None:
        """Start, stop, pause, resume or kill one of several nodes, counted from 1."""
        self._run(command, "--node", str(number))

    def close(self) -> None:
        self._guard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, *command: str) -> None:
        done = subprocess.run([SCRIPT, *command, *self._where], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoKafkaError(f"broker.sh {command[0]} failed:\n{done.stderr.strip()}")


class DockerBroker:
    """A broker in a container of the image apache/kafka."""

    def __init__(self) -> None:
        image = f"apache/kafka:{version()}"
        self.made_by = f"{image} by Docker"
        self._name = f"polygate-kafka-{uuid4().hex[:12]}"
        port = free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        settings = {
            "NODE_ID": "1",
            "PROCESS_ROLES": "broker,controller",
            "LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:{port + 1000}",
            "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
            "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "CONTROLLER_QUORUM_VOTERS": f"1@localhost:{port + 1000}",
            "AUTO_CREATE_TOPICS_ENABLE": "false",
            "OFFSETS_TOPIC_NUM_PARTITIONS": "4",
            "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "GROUP_MIN_SESSION_TIMEOUT_MS": "500",
            "BROKER_HEARTBEAT_INTERVAL_MS": "300",
            "BROKER_SESSION_TIMEOUT_MS": "3000",
        }
        words = [word for key, value in settings.items() for word in ("--env", f"KAFKA_{key}={value}")]
        self._guard = Guard("docker", "rm", "--force", "--volumes", self._name)
        try:
            self._run("run", "--detach", "--name", self._name, "--publish", f"127.0.0.1:{port}:{port}", *words, image)
            self._await()
        except NoKafkaError:
            self.close()
            raise

    def start(self) -> None:
        self._run("start", self._name)
        self._await()

    def stop(self) -> None:
        self._run("stop", self._name)

    def pause(self) -> None:
        self._run("pause", self._name)

    def resume(self) -> None:
        self._run("unpause", self._name)

    def kill(self) -> None:
        self._run("kill", self._name)

    def mend(self) -> None:
        with contextlib.suppress(NoKafkaError):  # one that is not paused cannot go on
            self.resume()
        self.start()

    def close(self) -> None:
        self._guard.close()

    def _await(self) -> None:
        until = time.monotonic() + READY_S
        while not answers(self.bootstrap):
            if time.monotonic() > until:
                logs = subprocess.run(["docker", "logs", "--tail=20", self._name], capture_output=True, check=False)
                raise NoKafkaError(f"{self.made_by} did not answer in {READY_S} s:\n{logs.stdout.decode()}")
            time.sleep(0.2)

    @staticmethod
    def _run(*command: str) -> None:
        done = subprocess.run(["docker", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoKafkaError(f"docker {command[0]} failed:\n{done.stderr.strip()}")


def docker_works() -> bool:
    """Tell whether an engine answers, which the client alone doesn't."""
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def java_works() -> bool:
    """Tell whether broker.sh can run: Java 17, and Maven or the jars from an earlier time."""
    if shutil.which("java") is None:
        return False
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return found is not None and int(found[1]) >= 17 and shutil.which("mvn") is not None


def kinds() -> list[type[DockerBroker | ScriptBroker]]:
    """Return what can be had here, the preferred first."""
    return [kind for kind, works in ((DockerBroker, docker_works), (ScriptBroker, java_works)) if works()]


def own() -> Broker:
    """Start a broker of our own by the first way that works; NoKafkaError tells every way that didn't."""
    troubles = []
    for kind in kinds():
        try:
            return kind()
        except NoKafkaError as exc:
            # An engine without a registry behind it has no image to run: Java may still do.
            troubles.append(str(exc))
    raise NoKafkaError("\n".join([*troubles, HOW_TO_GET_ONE]))


def main() -> int:
    """Say which kind would be used."""
    found = kinds()
    if not found:
        print(HOW_TO_GET_ONE, file=sys.stderr)
        return 1
    print("docker" if found[0] is DockerBroker else "java")
    return 0


if __name__ == "__main__":
    sys.exit(main())
