"""Each check of the doctor, shown a machine on which it matters."""

from __future__ import annotations

import ast
import json
import os
import resource
import socket
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

import rayflow as package
from rayflow.analytics.analyst.confinement import Offers
from rayflow.app import state as state_module
from rayflow.app.doctor import credentials, examine, folders, health, machine, network
from rayflow.app.doctor.folders import LONGEST_SOCKET, SOCKET_PATH_BYTES
from rayflow.app.doctor.sandbox import sandbox
from rayflow.app.state import RunFile, owned, run_folder, write_run_file


@pytest.fixture
def short_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="rf", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def proc_with(
    root: Path,
    *,
    name: str,
    command: str,
    tcp: str = "",
    inodes: tuple[int, ...] = (),
    environ: dict[str, str] | None = None,
) -> Path:
    """A /proc with one process, 4711, that holds the sockets `inodes`. `environ`: None where it cannot be read."""
    process = root / "4711"
    (process / "fd").mkdir(parents=True)
    (process / "comm").write_text(name + "\n")
    (process / "cmdline").write_bytes(command.replace(" ", "\0").encode())
    if environ is not None:
        (process / "environ").write_text("".join(f"{name}={value}\0" for name, value in environ.items()))
    for number, inode in enumerate(inodes):
        (process / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    (root / "net").mkdir()
    (root / "net" / "tcp").write_text("  sl  local_address rem_address   st ...\n" + tcp)
    return root


def tcp_row(address: str, port: int, status: str, inode: int) -> str:
    queues = "00000000:00000000 00:00000000 00000000"
    return f"   0: {address}:{port:04X} 00000000:0000 {status} {queues}     0        0 {inode} 1 0 100\n"


# --- the machine ---


def test_an_old_python_fails() -> None:
    assert machine.python((3, 10, 14)).level == "fail"
    assert machine.python((3, 11, 0)).level == "ok"


@pytest.mark.parametrize(
    ("installed", "level"), [("2.59.1", "fail"), ("2.60.0", "ok"), ("2.71.0", "ok"), ("3.0", "fail")]
)
def test_ray_must_be_of_a_known_version(installed: str, level: str) -> None:
    assert machine.ray(installed).level == level


def test_little_memory_is_a_warning(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16000000 kB\nMemAvailable:    1000000 kB\n")
    finding = machine.memory(meminfo)
    assert (finding.level, finding.found) == ("warn", "977 MiB available")
    assert machine.memory(tmp_path / "none").level == "ok"


@pytest.mark.parametrize(
    ("limits", "level", "fix"),
    [
        ((256, 4096), "fail", "ulimit -n 4096"),
        ((1024, 524288), "warn", "ulimit -n 8192"),
        ((1024, resource.RLIM_INFINITY), "warn", "ulimit -n 8192"),
        ((1024, 1024), "warn", "administrator"),
        ((65536, 65536), "ok", ""),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "ok", ""),
    ],
)
def test_the_open_file_limit_is_to_be_raised_as_far_as_it_may(limits: tuple[int, int], level: str, fix: str) -> None:
    finding = machine.open_files(limits)
    assert finding.level == level
    assert fix in finding.fix


def test_a_clock_behind_the_records_is_a_warning(state: Path) -> None:
    (state / "sessions").mkdir(parents=True)
    shard = state / "sessions" / "shard-0-of-1.sqlite"
    shard.touch()
    os.utime(shard, (4e9, 4e9))
    finding = machine.clock(state, now=4e9 - 7200)
    assert (finding.level, finding.found[-20:]) == ("warn", "s of 2.0 hours later")
    assert machine.clock(state, now=4e9 + 1).level == "ok"


def test_switched_off_bytecode_is_a_warning() -> None:
    assert machine.bytecode({"PYTHONDONTWRITEBYTECODE": "1"}).level == "warn"
    assert machine.bytecode({"PYTHONDONTWRITEBYTECODE": ""}).level == "ok"


# --- folders ---


def test_the_filesystem_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    inner = tmp_path / "a b"
    inner.mkdir()
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"3 1 0:52 / {str(inner).replace(' ', chr(92) + '040')} rw shared:1 - nfs4 server:/export rw\n"
        f"2 1 0:51 / {tmp_path} rw - tmpfs tmpfs rw\n"
    )
    assert folders.filesystem(inner, mounts) == "nfs4"
    assert folders.filesystem(tmp_path, mounts) == "tmpfs"
    assert folders.filesystem(Path("/"), mounts) == "ext4"


@pytest.mark.parametrize("kind", ["nfs4", "tmpfs"])
def test_a_state_folder_off_the_local_disk_is_a_warning(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - {kind} server:/export rw\n")
    finding = folders.state_folder(tmp_path / "deep" / "state", mounts)
    assert (finding.level, finding.check) == ("warn", "state folder")
    assert kind in finding.found


def test_a_state_folder_that_cannot_be_one_fails(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert folders.state_folder(file).level == "fail"


def test_the_doctor_makes_no_state_folder(state: Path) -> None:
    examine(state, 8080)
    assert not state.exists()


def test_a_long_temporary_folder_cannot_hold_the_sockets_of_ray(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "x" * 60)
    finding = folders.temp_folder(state)
    over = len(f"{run_folder(state)}/{LONGEST_SOCKET}") - SOCKET_PATH_BYTES
    assert finding.level == "fail"
    assert f"{over} bytes too long" in finding.found


def test_a_usable_temporary_folder_is_ok_and_stays_empty(short_temp: Path, state: Path) -> None:
    assert folders.temp_folder(state).level == "ok"
    assert list(short_temp.iterdir()) == []


def test_a_missing_temporary_folder_fails(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/rf-none")
    assert folders.temp_folder(state).level == "fail"


def test_a_running_system_is_named(short_temp: Path, state: Path) -> None:
    with owned(state) as run_dir:
        write_run_file(state, RunFile(os.getpid(), str(run_dir), "desk", "http://127.0.0.1:8080"))
        assert folders.running(state).found == f"desk runs as process {os.getpid()} at http://127.0.0.1:8080"
        assert network.port(state, 8080).found == "8080 is ours: http://127.0.0.1:8080"


def test_what_a_killed_system_left_is_told_apart_from_its_daemons(
    tmp_path: Path, short_temp: Path, state: Path
) -> None:
    state.mkdir()
    write_run_file(state, RunFile(1, "/nowhere", "desk"))
    (state / "lock").touch()
    quiet = proc_with(tmp_path / "quiet", name="raylet", command="raylet --temp_dir=/tmp/another")
    assert folders.running(state, quiet).level == "ok"
    assert "killed" in folders.running(state, quiet).found

    command = f"raylet --temp_dir={state_module.run_folder(state)}/r"
    orphaned = proc_with(tmp_path / "orphaned", name="raylet", command=command)
    finding = folders.running(state, orphaned)
    assert (finding.level, finding.fix) == ("warn", "end them: kill 4711")


# --- network ---


def test_a_taken_port_is_a_warning(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        assert network.port(state, number).level == "warn"
    assert network.port(state, number).level == "ok"


def test_only_what_ray_opens_to_all_interfaces_is_a_warning(tmp_path: Path) -> None:
    rows = (
        tcp_row("00000000", 6379, "0A", inode=1)  # everybody may connect
        + tcp_row("0100007F", 6380, "0A", inode=2)  # loopback
        + tcp_row("00000000", 6381, "01", inode=3)  # a connection, no listener
        + tcp_row("00000000", 22, "0A", inode=4)  # of somebody else
    )
    proc = proc_with(tmp_path, name="gcs_server", command="gcs_server", tcp=rows, inodes=(1, 2, 3))
    finding = network.ray_ports(proc)
    assert (finding.level, finding.found) == ("warn", "Ray listens on all interfaces at 1 ports: 6379")


def test_other_processes_are_not_ray(tmp_path: Path) -> None:
    rows = tcp_row("00000000", 22, "0A", inode=1)
    proc = proc_with(tmp_path, name="sshd", command="sshd", tcp=rows, inodes=(1,))
    assert network.ray_ports(proc).found == "no Ray runs here"


def test_what_has_ended_and_only_waits_for_its_parent_is_not_there(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, name="gcs_server", command="", environ={})
    assert network.ray_ports(proc).found == "no Ray runs here"
    assert health.ray_health_checks(proc).found == "no Ray runs here"
    assert credentials.ray_authentication({}, proc).level == "ok"


# --- the health checks of a running Ray ---


def gcs(root: Path, environ: dict[str, str] | None, config: str = "{}") -> Path:
    command = f"/ray/gcs_server --log_dir=/l --config_list={b64encode(config.encode()).decode()} --gcs_server_port=0"
    return proc_with(root, name="gcs_server", command=command, environ=environ)


def test_a_ray_with_its_own_defaults_is_slow_to_notice_the_end_of_a_node(tmp_path: Path) -> None:
    finding = health.ray_health_checks(gcs(tmp_path, {"RAY_AUTH_MODE": "token"}))
    assert (finding.level, finding.found) == ("warn", "a killed node is noticed within 15 s, a frozen one within 65 s")
    assert finding.fix.endswith(
        "export RAY_health_check_initial_delay_ms=0 RAY_health_check_period_ms=500"
        " RAY_health_check_timeout_ms=1000 RAY_health_check_failure_threshold=3"
    )


@pytest.mark.parametrize("by", ["variables", "command"])
def test_a_ray_with_the_health_checks_of_rayflow_is_ok(tmp_path: Path, by: str) -> None:
    variables = {f"RAY_health_check_{name}": str(value) for name, value in health.RAYFLOWS_OWN.items()}
    config = {f"health_check_{name}": value for name, value in health.RAYFLOWS_OWN.items()}
    proc = gcs(tmp_path, variables) if by == "variables" else gcs(tmp_path, {}, json.dumps(config))
    finding = health.ray_health_checks(proc)
    assert (finding.level, finding.found) == ("ok", "a killed node is noticed within 1.5 s, a frozen one within 4.5 s")


def test_what_is_advised_is_what_rayflow_sets_itself() -> None:
    source = ast.parse((Path(package.__file__).parent / "cluster" / "ray_cluster.py").read_text())
    assigned = {ast.unparse(node.targets[0]): node.value for node in source.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(assigned["HEALTH_CHECK"]) == health.RAYFLOWS_OWN


def test_what_ray_was_told_on_its_command_line_wins(tmp_path: Path) -> None:
    variables = {f"RAY_health_check_{name}": str(value) for name, value in health.RAYFLOWS_OWN.items()}
    finding = health.ray_health_checks(gcs(tmp_path, variables, '{"health_check_timeout_ms": 2000}'))
    assert (finding.level, finding.found[-23:]) == ("warn", "frozen one within 7.5 s")


def test_quick_to_notice_a_killed_node_is_not_enough(tmp_path: Path) -> None:
    variables = {"RAY_health_check_period_ms": "100"}
    finding = health.ray_health_checks(gcs(tmp_path, variables))
    assert finding.level == "warn"
    assert finding.found == "a killed node is noticed within 0.5 s, a frozen one within 50.5 s"


@pytest.mark.parametrize("config", ["no json", "[1]", '{"health_check_period_ms": "soon"}'])
def test_settings_that_make_no_sense_are_those_of_ray(tmp_path: Path, config: str) -> None:
    finding = health.ray_health_checks(gcs(tmp_path, {"RAY_health_check_timeout_ms": "-"}, config))
    assert finding.found.endswith("within 65 s")


def test_health_checks_that_cannot_be_seen_are_no_warning(tmp_path: Path) -> None:
    assert health.ray_health_checks(gcs(tmp_path / "foreign", None)).found.startswith("not known")
    worker = health.ray_health_checks(proc_with(tmp_path / "worker", name="raylet", command="raylet", environ={}))
    assert (worker.level, worker.found) == ("ok", "the cluster's head node decides: run the doctor there")


# --- credentials ---


def test_a_token_that_others_may_read_is_a_warning(tmp_path: Path) -> None:
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("not to be shown")
    token.chmod(0o644)
    finding = credentials.ray_token({}, tmp_path)
    assert (finding.level, finding.fix) == ("warn", f"chmod 600 {token}")
    token.chmod(0o600)
    assert credentials.ray_token({"RAY_AUTH_TOKEN_PATH": str(token)}).level == "ok"


@pytest.mark.parametrize(("mode", "level"), [(None, "ok"), ("token", "ok"), ("TOKEN", "ok"), ("disabled", "warn")])
def test_ray_without_authentication_is_a_warning(tmp_path: Path, mode: str | None, level: str) -> None:
    env = {} if mode is None else {"RAY_AUTH_MODE": mode}
    assert credentials.ray_authentication(env, tmp_path).level == level


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
@pytest.mark.parametrize(
    ("environ", "level"),
    [({}, "warn"), ({"RAY_AUTH_MODE": "disabled"}, "warn"), ({"RAY_AUTH_MODE": "Token"}, "ok"), (None, "ok")],
)
def test_a_running_ray_that_asks_for_no_token_is_a_warning(
    tmp_path: Path, name: str, environ: dict[str, str] | None, level: str
) -> None:
    proc = proc_with(tmp_path, name=name, command=name, environ=environ)
    finding = credentials.ray_authentication({"RAY_AUTH_MODE": "token"}, proc)
    assert finding.level == level
    assert (f"{name} (process 4711)" in finding.found) == (level == "warn")


def test_the_title_of_a_ray_worker_says_nothing_about_its_token(tmp_path: Path) -> None:
    """A worker writes its title over its environment."""
    proc = proc_with(tmp_path, name="ray::IDLE", command="ray::IDLE", environ={})
    assert credentials.ray_authentication({}, proc).level == "ok"


def test_keys_are_counted_and_not_shown() -> None:
    for finding in (
        credentials.openai_key({"OPENAI_API_KEY": "sk-1"}),
        credentials.ray_token({"RAY_AUTH_TOKEN": "sk-1"}),
    ):
        assert finding.level == "ok"
        assert "sk-1" not in finding.found


@pytest.mark.parametrize(
    ("landlock", "network", "level", "found"),
    [
        (7, True, "ok", "version 7, no network"),
        (4, False, "ok", "not permitted"),
        (3, False, "warn", "version 3"),
        (2, True, "warn", "version 2"),
        (0, True, "warn", "switched off"),
    ],
)
def test_a_kernel_that_cannot_keep_sql_from_harm_is_a_warning(
    landlock: int, network: bool, level: str, found: str
) -> None:
    finding = sandbox(Offers(landlock, network))
    assert finding.level == level
    assert found in finding.found
    assert ("sql_sandbox: best_effort" in finding.fix) == (level != "ok")
