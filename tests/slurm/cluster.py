"""A real Slurm on one machine: munge, a controller, and a node that pretends to have 8 CPUs, each on a port of its own.

with SlurmCluster() as cluster:
    cluster.ask("sinfo")
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.couchdb.processes import START_SECONDS, Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Collection

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")

NODE = "node1"

CPUS = 8

GPUS = ("/dev/null", "/dev/zero")
"""It has none: any device will do."""

ARRAY = 300
"""``MaxArraySize``: enough for the tests, and small enough that one can be too large."""

ASK_SECONDS = 60.0

_MARK = "TEST_SLURM_CLUSTER"
"""A variable by which all processes of a cluster are known, those of jobs too."""

# What is run in the background at the end of the input: whoever had started the cluster has gone, however.
_GUARD = """
import os, shutil, signal, sys, time
mark, folders = sys.argv[1].encode(), sys.argv[2:]
if sys.stdin.read() != "done":
    for _ in range(20):
        found = False
        for name in os.listdir("/proc"):
            if not name.isdecimal() or int(name) == os.getpid():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark not in file.read().split(bytes(1)):
                        continue
                os.kill(int(name), signal.SIGKILL)
                found = True
            except OSError:
                pass
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        if not found and not any(map(os.path.exists, folders)):
            break
        time.sleep(0.1)
"""

_CONFIG = """\
ClusterName=picas
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={socket},cred_expire=6
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=200
SlurmdParameters=config_overrides
MaxArraySize={array}
ReturnToService=2
KillWait=30
MinJobAge=600
JobRequeue=1
# Tests wait for nothing: jobs begin when they come.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={daemon} CPUs={cpus} RealMemory=8000 Features=fast Gres=gpu:{gpus}
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE State=UP
PartitionName=normal Nodes={node} MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """What of it is not installed here."""
    return [name for name in COMMANDS if _program(name) is None]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin:/usr/local/sbin")


class _Daemon(Server):
    """One of its daemons, in the foreground."""

    def __init__(self, name: str, cluster: SlurmCluster) -> None:
        super().__init__(name)
        self.folder.chmod(0o755)  # munged's socket must be within reach
        self.cluster = cluster

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.cluster.environment}

    def program(self, name: str) -> str:
        found = _program(name)
        assert found, name
        return found


class _Munge(_Daemon):
    """Says of everybody who he is."""

    def write_files(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)

    def command(self) -> list[str]:
        files = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "seed", "log", "key")}
        options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in files.items()]
        return [self.program("munged"), "--foreground", "--force", "--num-threads=2", *options]

    def ready(self) -> bool:
        return (self.folder / "munge.socket").exists()


class _Controller(_Daemon):
    """Takes jobs and gives them to the node."""

    def write_files(self) -> None:
        (self.folder / "state").mkdir()

    def command(self) -> list[str]:
        return [self.program("slurmctld"), "-D", "-f", str(self.cluster.config)]

    def ready(self) -> bool:
        return "UP" in self.cluster.ask("scontrol", "ping", check=False)


class _Node(_Daemon):
    """Runs jobs."""

    def command(self) -> list[str]:
        return [self.program("slurmd"), "-D", "-N", NODE, "-f", str(self.cluster.config)]

    def ready(self) -> bool:
        return self.cluster.ask("sinfo", "--noheader", "--format=%T").split()[0] in (
            "idle",
            "mixed",
            "allocated",
        )


class SlurmCluster:
    """The daemons, and what can be asked of them.

    Attributes:
        environment: what the commands of Slurm must find in their environment.
        spared: jobs that run while other tests do.
    """

    def __init__(self) -> None:
        self.munge = _Munge("munged", self)
        self.controller = _Controller("slurmctld", self)
        self.node = _Node("slurmd", self)
        self.config = self.controller.folder / "slurm.conf"
        self.environment = {"SLURM_CONF": str(self.config), _MARK: str(self.controller.folder)}
        self.spared: set[str] = set()
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def daemons(self) -> tuple[_Daemon, ...]:
        return (self.munge, self.controller, self.node)

    def __enter__(self) -> SlurmCluster:
        mark = f"{_MARK}={self.environment[_MARK]}"
        folders = [str(each.folder) for each in self.daemons]
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD, mark, *folders],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._write_config()
            for daemon in self.daemons:
                daemon.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write_config(self) -> None:
        self.config.write_text(
            _CONFIG.format(
                host=socket.gethostname().partition(".")[0],
                controller=self.controller.port,
                daemon=self.node.port,
                user=pwd.getpwuid(os.geteuid()).pw_name,
                socket=self.munge.folder / "munge.socket",
                folder=self.controller.folder,
                array=ARRAY,
                node=NODE,
                cpus=CPUS,
                gpus=len(GPUS),
            )
        )
        self.config.with_name("gres.conf").write_text(
            "AutoDetect=off\n" + "".join(f"NodeName={NODE} Name=gpu File={device}\n" for device in GPUS)
        )

    def close(self) -> None:
        """End everything that belongs to it, jobs too, whatever state it is in."""
        for daemon in reversed(self.daemons):
            with contextlib.suppress(Exception):
                daemon.kill()
        wait_until(lambda: not self._kill_all(), START_SECONDS, lambda: "processes of Slurm are still there")
        for daemon in self.daemons:
            daemon.close()
        if self._guard is not None:
            self._guard.communicate(b"done")

    def _kill_all(self, but: Collection[int] = ()) -> bool:
        """KILL to what has our mark; whether there was anything."""
        mark = f"{_MARK}={self.environment[_MARK]}".encode()
        found = False
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) in {os.getpid(), *but}:
                continue
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
                    found = True
        return found

    def crash_node(self) -> None:
        """The node with all that runs on it dies at once, as in a power cut."""
        self.node.kill()
        others = {self.munge.pid, self.controller.pid, *self._children_of(self.controller.pid)}
        wait_until(lambda: not self._kill_all(others), START_SECONDS, lambda: "jobs are still there")

    def _children_of(self, pid: int) -> list[int]:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def revive(self) -> None:
        """What a test has killed runs again, and the node takes jobs."""
        for daemon in self.daemons:
            if not daemon.running:
                daemon.start()
        wait_until(self._resumed, START_SECONDS, lambda: self.ask("scontrol", "show", "node", NODE))

    def _resumed(self) -> bool:
        if self.node.ready():
            return True
        self.ask("scontrol", "update", f"NodeName={NODE}", "State=RESUME", check=False)
        return False

    def clear(self) -> None:
        """End all jobs but those that are spared."""
        self.revive()
        if jobs := {line.partition(" ")[0].partition("_")[0] for line in self.waiting()}:
            self.ask("scancel", *jobs)
        wait_until(
            lambda: not self.waiting(), START_SECONDS, lambda: "jobs do not end: " + "\n".join(self.waiting())
        )

    # asking

    def waiting(self) -> list[str]:
        """Jobs and elements of arrays that are not over, nor spared: ``1234_5 RUNNING``."""
        lines = self.ask("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return [line for line in lines if line.partition(" ")[0] not in self.spared]

    def ask(self, *command: str, check: bool = True, **options: Any) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=ASK_SECONDS,
            env={**os.environ, **self.environment},
            **options,
        )
        assert done.returncode == 0 or not check, f"{command} ended with {done.returncode}: {done.stdout}"
        return done.stdout
