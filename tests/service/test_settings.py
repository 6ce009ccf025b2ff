from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import InputError
from service.settings import PREFIX, Settings, unknown_variables

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def test_defaults_serve_this_machine_alone() -> None:
    settings = Settings.load()
    assert (settings.host, settings.rest_port, settings.grpc_port) == ("127.0.0.1", 8000, 50051)
    assert settings.redis_url is None


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLOTPOINTE_REST_PORT", "1")
    monkeypatch.setenv("PLOTPOINTE_GRPC_PORT", "2")
    monkeypatch.setenv("PLOTPOINTE_REDIS_URL", "")
    settings = Settings.load(rest_port=3, grpc_port=None)
    assert (settings.rest_port, settings.grpc_port, settings.redis_url) == (3, 2, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REST_PORT", "http"),
        ("REST_PORT", "70000"),
        ("REDIS_TIMEOUT_MS", "0"),
        ("CACHE_TTL_SECONDS", "-1"),
        ("CACHE_MAX_ENTRIES", "0"),
        ("NUM_CANDIDATES", "0"),
        ("DRAIN_SECONDS", "soon"),
        ("LOG_LEVEL", "LOUD"),
        ("GRPC_REFLECTION", "perhaps"),
        ("WORKERS", "0"),
        ("ADMIN_KEY", "short"),
        ("ADMIN_KEY", "a key that has spaces in it"),
        ("TENANTS", "shop-a,Shop-B"),
        ("TENANTS", "../etc"),
        ("TENANTS", "a,a"),
        ("RELOAD_SECONDS", "0"),
        ("RECALL_SAMPLE_SHARE", "1.5"),
        ("STATE_TTL_DAYS", "-1"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(InputError, match=f"PLOTPOINTE_{name}: "):
        Settings.load()


def test_a_bad_flag_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="--rest-port: "):
        Settings.load(rest_port=-1)


def test_a_variable_that_no_setting_has_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLOTPOINTE_REDIS_URI", "redis://h")
    with caplog.at_level(logging.WARNING):
        Settings.load()
    assert "PLOTPOINTE_REDIS_URI; it has no effect (is PLOTPOINTE_REDIS_URL meant?)" in caplog.text
    assert unknown_variables({"PLOTPOINTE_WEIGHTS_DIR": "", "PATH": "", "PLOTPOINTE_HOST": ""}) == []


def test_tenants_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().tenants == ()
    monkeypatch.setenv("PLOTPOINTE_TENANTS", "shop-a, shop-b")
    assert Settings.load().tenants == ("shop-a", "shop-b")
    assert Settings.load(tenants="shop-c").tenants == ("shop-c",)
    assert Settings(tenants=("shop-d",)).tenants == ("shop-d",)


def test_the_admin_key_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLOTPOINTE_ADMIN_KEY", "a-key-of-hunter2")
    assert "hunter2" not in repr(Settings.load())
    monkeypatch.setenv("PLOTPOINTE_ADMIN_KEY", "hunter2")
    with pytest.raises(InputError, match="PLOTPOINTE_ADMIN_KEY") as refused:
        Settings.load()
    assert "hunter2" not in str(refused.value)


def test_the_password_of_redis_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLOTPOINTE_REDIS_URL", "redis://:hunter2@h")
    monkeypatch.setenv("PLOTPOINTE_REST_PORT", "hunter2")
    with pytest.raises(InputError) as refused:
        Settings.load()
    assert "hunter2" not in str(refused.value)
    monkeypatch.delenv("PLOTPOINTE_REST_PORT")
    assert "hunter2" not in repr(Settings.load())


def test_every_setting_is_described_in_a_sentence_and_in_the_docs() -> None:
    docs = (ROOT / "docs" / "SETTINGS.md").read_text()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert field.description.endswith(".")
        default = "" if field.default is None else f"`{field.default}`"
        assert f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |" in docs


def test_every_setting_is_read_somewhere() -> None:
    code = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py") if path.name != "settings.py")
    unread = [name for name in Settings.model_fields if f"settings.{name}" not in code]
    assert unread == []


def test_the_service_loads_no_torch_and_no_offline_library() -> None:
    code = (
        "import sys, service.wiring\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}"
        " & {'torch', 'pandas', 'polars', 'pyarrow', 'scipy', 'torch_geometric', 'training', 'offline_jobs'}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip() == ""
