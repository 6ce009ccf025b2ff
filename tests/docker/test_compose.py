"""The compose file and the Dockerfiles, held to the Compose specification and to the code that they name."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from offline_jobs.__main__ import COMMANDS
from offline_jobs.weights import CACHE_VARIABLE
from service.settings import OTHER_PARTS, PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = {name: ROOT / "docker" / f"{name}.Dockerfile" for name in ("service", "jobs")}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
UID = "10001"
HOME = "/var/lib/plotpointe"
VARIABLE = re.compile(r"\$\{(\w+)(:?)-([^}]*)\}")


def compose(environ: dict[str, str] | None = None) -> dict[str, Any]:
    """The compose file with its variables replaced, as Compose does: `${NAME:-x}` also for empty, `${NAME-x}` not."""
    given = environ or {}

    def value(match: re.Match[str]) -> str:
        name, colon, default = match.groups()
        return default if name not in given or (colon and not given[name]) else given[name]

    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: replaced(child) for key, child in node.items()}
        if isinstance(node, list):
            return [replaced(child) for child in node]
        return VARIABLE.sub(value, node) if isinstance(node, str) else node

    found: dict[str, Any] = replaced(yaml.safe_load(COMPOSE.read_text("utf-8")))
    return found


def dotenv() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, rest) of a Dockerfile: comments gone, continued lines joined."""
    lines = [line for line in DOCKERFILES[name].read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last_stage(name: str) -> list[tuple[str, str]]:
    found = instructions(name)
    return found[max(index for index, (word, _) in enumerate(found) if word == "FROM") + 1 :]


def environment(name: str) -> dict[str, str]:
    """ENV of the image that is made."""
    return dict(pair.split("=", 1) for pair in shlex.split(only(name, "ENV")))


def only(name: str, instruction: str) -> str:
    """What the last stage says in its one `instruction`."""
    (rest,) = [rest for word, rest in last_stage(name) if word == instruction]
    return rest


def check(path: Path) -> subprocess.CompletedProcess[str]:
    """The file against the specification's JSON schema, as check-jsonschema carries it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_compose_file_obeys_the_specification():
    checked = check(COMPOSE)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_wrong_compose_file_is_refused(tmp_path: Path):
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text("utf-8").replace("read_only:", "readonly:"), "utf-8")
    checked = check(wrong)
    assert checked.returncode == 1
    assert "('readonly' was unexpected)" in checked.stdout


def test_the_example_lists_every_variable_with_its_default():
    text = COMPOSE.read_text("utf-8")
    variables = {name: default for name, _, default in VARIABLE.findall(text)}
    assert text.count("${") == len(VARIABLE.findall(text)), "every variable has a default"
    assert dotenv() == variables
    assert compose(dotenv()) == compose()


def test_the_service_is_configured_by_settings_that_exist(monkeypatch: pytest.MonkeyPatch):
    given = compose()["services"]["service"]["environment"]
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(given) <= known
    for name, value in (environment("service") | given).items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, str(value))
    settings = Settings.load()
    assert (settings.host, settings.rest_port, settings.grpc_port) == ("0.0.0.0", 8000, 50_051)
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://redis:6379/0"
    assert settings.drain_seconds < float(compose()["services"]["service"]["stop_grace_period"].removesuffix("s"))


def test_an_empty_redis_url_turns_redis_off():
    given = compose({"PLOTPOINTE_REDIS_URL": ""})["services"]["service"]["environment"]
    assert not given["PLOTPOINTE_REDIS_URL"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_every_plotpointe_variable_of_an_image_is_read_by_the_code(name: str):
    known = {PREFIX + field.upper() for field in Settings.model_fields} | OTHER_PARTS
    named = {variable for variable in environment(name) if variable.startswith(PREFIX)}
    assert named
    assert named <= known


def test_ports_are_the_settings_own():
    ports = [str(Settings.model_fields[name].default) for name in ("rest_port", "grpc_port")]
    assert only("service", "EXPOSE").split() == ports
    assert [port.rsplit(":", 1)[1] for port in compose()["services"]["service"]["ports"]] == ports
    assert all(port.startswith("127.0.0.1:") for port in compose()["services"]["service"]["ports"])


def test_commands_exist():
    scripts = {script.name for script in entry_points(group="console_scripts")}
    assert set(PROJECT["scripts"]) <= scripts
    assert yaml.safe_load(only("service", "ENTRYPOINT")) == ["plotpointe-serve"]
    assert yaml.safe_load(only("jobs", "ENTRYPOINT")) == ["plotpointe-jobs"]
    assert compose()["services"]["locust"]["entrypoint"][0] in scripts


@pytest.mark.parametrize("name", ["shop", "jobs"])
def test_the_jobs_commands_and_flags_exist(name: str):
    command, *arguments = compose()["services"][name]["command"]
    flags = {flag.split("=")[0].removeprefix("--") for flag in arguments if flag.startswith("--")}
    assert flags
    assert flags <= set(COMMANDS[command].flags)


def test_the_load_tests_command_is_understood():
    """Parsed by Locust with the load test's own flags added, in a process of its own: Locust patches the sockets."""
    parse = (
        "import sys\n"
        "from locust.argument_parser import get_parser\n"
        "from locust.util.load_locustfile import load_locustfile\n"
        "load_locustfile(sys.argv[1])\n"
        "get_parser().parse_args(sys.argv[2:])\n"
    )
    arguments = [str(ROOT / "loadtests/locustfile.py"), *compose()["services"]["locust"]["command"]]
    command = [sys.executable, "-c", parse, *arguments]
    understood = subprocess.run(command, capture_output=True, text=True, check=False)
    assert understood.returncode == 0, understood.stderr
    refused = subprocess.run([*command, "--no-such-flag"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2


def test_what_one_service_writes_is_where_the_next_one_reads():
    services = compose()["services"]
    mounts = {
        name: dict(volume.split(":")[:2] for volume in service.get("volumes", ())) for name, service in services.items()
    }
    flags = dict(flag.removeprefix("--").split("=") for flag in services["jobs"]["command"][1:])
    assert flags["data"] == services["shop"]["command"][-1]
    assert flags["bundles"] == mounts["jobs"]["bundles"] == mounts["service"]["bundles"]
    assert flags["bundles"] == services["service"]["environment"]["PLOTPOINTE_BUNDLES"]
    assert services["service"]["environment"]["PLOTPOINTE_EVENTS_DIR"] == mounts["service"]["events"]
    assert services["service"]["environment"]["PLOTPOINTE_STATE_DIR"] == mounts["service"]["state"]
    assert services["jobs"]["environment"][CACHE_VARIABLE].startswith(mounts["jobs"]["work"])
    used = {source for mount in mounts.values() for source in mount if not source.startswith(".")}
    assert used == set(compose()["volumes"])


@pytest.mark.parametrize("name", compose()["services"])
def test_every_service_is_read_only_limited_and_without_privileges(name: str):
    service = compose()["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}


def test_each_wait_is_for_something_that_says_so():
    services = compose()["services"]
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                has_check = "healthcheck" in services[other] or "HEALTHCHECK" in dict(instructions(other))
                assert has_check, (name, other)
            needs_profile = set(services[other].get("profiles", ())) - set(service.get("profiles", ()))
            assert not needs_profile or wait.get("required") is False, (name, other)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_built_in_stages_on_a_base_that_can_be_named(name: str):
    found = instructions(name)
    assert [rest for word, rest in found if word == "FROM"] == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    assert found[0][0] == "ARG"
    assert found[0][1] == f"PYTHON_IMAGE={dotenv()['PYTHON_IMAGE']}"
    copied = [rest for word, rest in last_stage(name) if word == "COPY"]
    assert copied == ["--from=build /opt/plotpointe /opt/plotpointe"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_run_as_the_user_that_owns_the_volumes(name: str):
    assert only(name, "USER") == f"{UID}:{UID}"
    (makes_user,) = [rest for word, rest in last_stage(name) if word == "RUN"]
    assert f"useradd --uid {UID} --gid {UID}" in makes_user
    owned = shlex.split(makes_user.rsplit("install -d", 1)[1])
    mounted = [volume.split(":")[1] for volume in compose()["services"][name]["volumes"]]
    assert set(mounted) <= set(owned)
    assert HOME in owned


@pytest.mark.parametrize(("name", "extras"), [("service", "service,cpu,encoders"), ("jobs", "jobs,cpu")])
def test_images_hold_their_extras_and_this_version(name: str, extras: str):
    assert ("ARG", f"EXTRAS={extras}") in instructions(name)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert ("ARG", f"VERSION={PROJECT['version']}") in last_stage(name)
    assert f'licenses="{PROJECT["license"]}"' in only(name, "LABEL")


def test_the_load_testers_image_holds_an_extra_that_exists():
    assert compose()["services"]["locust"]["build"]["args"]["EXTRAS"] in PROJECT["optional-dependencies"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_send_no_telemetry(name: str):
    assert environment(name)["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_every_file_that_is_copied_is_let_through_and_nothing_else(name: str):
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_through = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = set()
    for word, rest in instructions(name):
        if word == "COPY" and "--from" not in rest:
            copied |= set(rest.split()[:-1])
    assert ignore[1] == "*"
    assert copied == let_through
    assert all((ROOT / path).exists() for path in copied)


def test_build_arguments_are_arguments_of_the_dockerfile():
    for name, service in compose()["services"].items():
        if "build" in service:
            dockerfile = Path(service["build"]["dockerfile"]).name.removesuffix(".Dockerfile")
            known = {rest.split("=")[0] for word, rest in instructions(dockerfile) if word == "ARG"}
            assert set(service["build"]["args"]) <= known, name


def test_the_health_check_asks_the_port_that_is_served(tmp_path: Path):
    """The image's own command, run against a real server."""
    interval, _, command = only("service", "HEALTHCHECK").partition(" CMD ")
    assert "--start-period" in interval
    python, *arguments = yaml.safe_load(command)
    assert python == "python"
    serve = (
        "import http.server as h\n"
        "class Handler(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200 if self.path == '/livez' else 404)\n"
        "        self.end_headers()\n"
        "    def log_message(self, *_): ...\n"
        "server = h.HTTPServer(('127.0.0.1', 0), Handler)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    with subprocess.Popen([sys.executable, "-c", serve], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            environ = {"PLOTPOINTE_REST_PORT": server.stdout.readline().strip()}
            healthy = subprocess.run([sys.executable, *arguments], env=environ, check=False)
        finally:
            server.kill()
    gone = subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, check=False)
    assert (healthy.returncode, gone.returncode) == (0, 1)


def test_pips_settings_are_a_secret_and_the_default_ones_hold_none():
    assert compose()["secrets"]["pip_conf"]["file"] == "./docker/pip.conf"
    lines = (ROOT / "docker/pip.conf").read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["[global]"]
