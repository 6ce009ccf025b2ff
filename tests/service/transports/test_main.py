"""`plotpointe-serve` as a person and an orchestrator meet it: the real process, its exit status, what it prints."""

import os
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.__main__ import ENVIRONMENT_ONLY
from service.settings import Settings

TIMEOUT_S = 30


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def folders(tmp_path: Path) -> tuple[str, ...]:
    return ("--events-dir", str(tmp_path / "events"), "--state-dir", str(tmp_path / "state"))


@pytest.fixture
def run(command):
    """Run the service until it ends by itself."""

    def ended(*flags, **variables):
        return subprocess.run(
            [*command[0], *flags],
            env=command[1] | variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )

    return ended


def assert_refused(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2
    assert result.stdout == ""
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in line


def test_help_has_every_setting_in_its_own_words(run):
    result = run("--help", COLUMNS="500")
    assert result.returncode == 0
    for name, field in Settings.model_fields.items():
        if name in ENVIRONMENT_ONLY:
            assert f"PLOTPOINTE_{name.upper()}" in result.stdout
        else:
            assert f"--{name.replace('_', '-')}" in result.stdout
            assert field.description in result.stdout


@pytest.mark.parametrize("setting", ["rest_port", "grpc_port"])
def test_a_busy_port_is_named_with_the_way_out(run, bundle_root, tmp_path, setting):
    flag, variable = f"--{setting.replace('_', '-')}", f"PLOTPOINTE_{setting.upper()}"
    ports = {"--rest-port": str(free_port()), "--grpc-port": str(free_port())}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports[flag] = str(taken.getsockname()[1])
        given = [part for pair in ports.items() for part in pair]
        result = run("--bundles", str(bundle_root), *folders(tmp_path), *given)
        assert_refused(result, f"port {ports[flag]} ", flag, variable)
    for port in ports.values():
        with socket.create_server(("127.0.0.1", int(port))):
            pass  # nothing was left listening


def test_a_second_service_on_the_same_ports_is_refused(run, served, bundle_root):
    for flag, port in (("--rest-port", urlsplit(served.rest).port), ("--grpc-port", served.grpc.rpartition(":")[2])):
        other = "--grpc-port" if flag == "--rest-port" else "--rest-port"
        result = run("--bundles", str(bundle_root), flag, str(port), other, "0")
        assert_refused(result, f"port {port} ", flag)
    assert served.get("/readyz").status_code == 200


def test_a_wrong_folder_is_named(run, tmp_path):
    missing = tmp_path / "nothing-here"
    assert_refused(run("--bundles", str(missing), "--rest-port", "0", "--grpc-port", "0"), str(missing), "CURRENT")
    assert not missing.exists()


def test_a_tampered_bundle_is_refused(run, bundle_root, tmp_path):
    copy = tmp_path / "bundles"
    subprocess.run(["cp", "-r", str(bundle_root), str(copy)], check=True)
    version = (copy / "CURRENT").read_text().strip()
    victim = copy / version / "reranker.onnx"
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x00")
    result = run("--bundles", str(copy), "--rest-port", "0", "--grpc-port", "0", *folders(tmp_path))
    assert_refused(result, "reranker.onnx")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--rest-port", "x"), ("--rest-port",)),
        (("--rest-port", "70000"), ("--rest-port",)),
        (("--drain-seconds", "-1"), ("--drain-seconds",)),
        (("--workers", "0"), ("--workers",)),
        (("--tenants", "a,A"), ("--tenants",)),
        (("--host", "192.0.2.1", "--rest-port", "0"), ("--host", "192.0.2.1")),
        (("--host", "no host", "--rest-port", "0"), ("--host", "no host")),
    ],
)
def test_a_bad_flag_is_named(run, flags, words):
    assert_refused(run(*flags), *words)


def test_an_unknown_flag_shows_the_usage(run):
    result = run("--prot", "1")
    assert result.returncode == 2
    assert "--prot" in result.stderr
    assert "usage:" in result.stderr


def test_a_bad_variable_is_named(run):
    assert_refused(run(PLOTPOINTE_REST_PORT="many"), "PLOTPOINTE_REST_PORT")


def test_a_flag_wins_over_its_variable(run, tmp_path):
    flags = ("--rest-port", "0", "--grpc-port", "0", "--bundles", str(tmp_path))
    assert_refused(run(*flags, PLOTPOINTE_REST_PORT="many"), str(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_well(command, bundle_root, tmp_path, number):
    flags = ["--bundles", str(bundle_root), *folders(tmp_path), "--rest-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(
        [*command[0], *flags], env=command[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            waiting = select.poll()
            waiting.register(process.stdout, select.POLLIN)
            assert waiting.poll(TIMEOUT_S * 1000)
            address = urlsplit(re.search(r"http://\S+:\d+", process.stdout.readline())[0])
            with socket.create_connection((address.hostname, address.port)) as connection:
                # Asked while the process is stopped: the request and the signal are there when it goes on.
                os.kill(process.pid, signal.SIGSTOP)
                connection.sendall(b"GET /recommend?user_id=a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                os.kill(process.pid, number)
                os.kill(process.pid, signal.SIGCONT)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert httpx.get(address._replace(path="/readyz").geturl()).status_code == 503
            assert process.wait(10) == 0
            output, complaints = process.communicate()
            assert output == ""
            assert "Traceback" not in complaints
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address.hostname, address.port))
        finally:
            process.kill()


def test_one_event_is_written_for_each_answer(serve, bundle_root, tmp_path):
    with serve("--bundles", str(bundle_root), "--events-dir", str(tmp_path)) as served:
        shown = [served.get(f"/recommend?user_id=shopper-00{n}").json()["recommendation_id"] for n in range(5)]
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not all(name in written(tmp_path) for name in shown):
            time.sleep(0.05)
    for name in shown:
        assert written(tmp_path).count(name) == 1


def written(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
