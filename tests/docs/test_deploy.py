"""The files in deploy/ can be used, and they, the pages, the image and the code name the same places and times."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relay import __version__
from relay.app import STOP_GRACE
from relay.config import load, load_without_files, reference
from relay.listen import BACKLOG
from relay.settings import Settings

ROOT = Path(__file__).parents[2]
THRESHOLD = "MALLOC_MMAP_THRESHOLD_=131072"
DEPLOY = ROOT / "deploy"
SETTINGS_FILE, UNIT, SOCKET, COMPOSE, UNBOUND = (
    DEPLOY / name for name in ("relay.toml", "relay.service", "relay.socket", "compose.yaml", "unbound.conf")
)
INSTALL = (ROOT / "docs" / "install.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def unit(file: Path = UNIT) -> dict[str, list[str]]:
    """The assignments of a unit file."""
    found: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if line and line[0] not in "#[":
            key, equals, value = line.partition("=")
            assert equals and re.fullmatch(r"[A-Z][A-Za-z0-9]+", key), line
            found.setdefault(key, []).append(value)
    return found


def compose() -> dict[str, str]:
    """The plain YAML of the file, flat: `services.relay.image` -> `relay:0.1.0`. Items of lists are numbered."""
    found: dict[str, str] = {}
    path: list[str] = []
    for line in COMPOSE.read_text().splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        whole = re.fullmatch(r"((?:  )*)(?:- (\S+)|([A-Za-z_]+):(?: (\"[^\"]*\"|[^\s\"&*!|>{\[]\S*))?)", line)
        assert whole, f"not plain YAML: {line!r}"
        depth = len(whole[1]) // 2
        assert depth <= len(path), line
        del path[depth:]
        name = ".".join([*path, whole[3] or str(sum(key.startswith(".".join(path) + ".") for key in found))])
        assert name not in found, line
        if whole[3]:
            path.append(whole[3])
        found[name] = (whole[2] or whole[4] or "").strip('"')
    return found


def values(tree: dict[str, str], below: str) -> dict[str, str]:
    return {key.removeprefix(f"{below}."): value for key, value in tree.items() if key.startswith(f"{below}.")}


def relay(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    command = [sys.executable, "-m", "relay", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_the_settings_file_can_be_used_as_it_is() -> None:
    check = relay("config", "check", str(SETTINGS_FILE))
    assert (check.returncode, check.stdout) == (0, f"{SETTINGS_FILE}: no mistakes found\n"), check.stderr


def test_what_is_commented_out_in_the_settings_file_can_be_used_too(tmp_path: Path) -> None:
    text, taken_in = re.subn(r"^#(?=[a-z_]+ = |\[\[)", "", SETTINGS_FILE.read_text(), flags=re.MULTILINE)
    assert taken_in > 5
    (tmp_path / "relay.toml").write_text(text)
    settings = load_without_files(tmp_path / "relay.toml", {})
    assert settings.submission.listen_tls and settings.submission.users_file
    assert settings.dkim_key and settings.tlsrpt.report_domain and settings.unsigned_reports is None


def test_the_unit_names_the_places_that_the_others_name() -> None:
    given = unit()
    program, *arguments = given["ExecStart"][0].split()
    folder = load(SETTINGS_FILE, {}).queue.path
    assert arguments == ["run", "--config", "/etc/relay/relay.toml"]
    assert given["Environment"] == [f"RELAY_STATE={folder}", THRESHOLD]
    assert [f"/var/lib/{name}" for name in given["StateDirectory"]] == [str(folder)]
    assert f"RELAY_STATE={folder}" in DOCKERFILE and f"VOLUME {folder}\n" in DOCKERFILE
    assert program == "/opt/relay/bin/relay" and "python3 -m venv /opt/relay\n" in INSTALL
    assert "install -m 0644 deploy/relay.toml /etc/relay/relay.toml\n" in INSTALL
    assert "install -m 0644 deploy/relay.service /etc/systemd/system/relay.service\n" in INSTALL
    assert given["User"] == given["Group"] == ["relay"]
    assert re.search(rf"^useradd --system --user-group .*--home-dir {folder} .* relay$", INSTALL, re.MULTILINE)


def test_the_unit_lets_a_stop_take_its_time() -> None:
    (seconds,) = unit()["TimeoutStopSec"]
    assert int(seconds) > 2 * STOP_GRACE.total_seconds()  # clients first, then deliveries
    grace = compose()["services.relay.stop_grace_period"]
    assert grace == f"{seconds}s" and f"--stop-timeout {seconds} " in INSTALL


def test_a_mistake_in_the_settings_does_not_start_it_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("nonsense = 1\n")
    assert unit()["RestartPreventExitStatus"] == [str(relay("run", "--config", str(file)).returncode)]
    assert unit()["Restart"] == ["on-failure"]


def test_the_unit_gives_the_right_to_the_ports_of_the_settings_file_and_no_other() -> None:
    assert any(address.port < 1024 for address in load(SETTINGS_FILE, {}).submission.listen)
    assert unit()["AmbientCapabilities"] == unit()["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE"]


def test_the_unit_lets_every_client_and_delivery_have_its_descriptors() -> None:
    settings = Settings()
    assert int(unit()["LimitNOFILE"][0]) > 4 * (settings.submission.max_connections + settings.delivery.concurrency)


def test_the_sockets_of_systemd_are_what_the_page_and_the_settings_say() -> None:
    given = unit(SOCKET)
    (name,) = given["FileDescriptorName"]
    page = (ROOT / "docs" / "listeners.md").read_text()
    assert f'listen = ["systemd:{name}"]' in page and f'["systemd:{name}"]' in SOCKET.read_text()
    places = [str(address) for address in load(SETTINGS_FILE, {}).submission.listen]
    assert given["ListenStream"] == places
    assert given["Backlog"] == [str(BACKLOG)]


def test_the_image_and_the_unit_save_the_same_memory() -> None:
    assert f" {THRESHOLD}\n" in DOCKERFILE and THRESHOLD in unit()["Environment"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_knows_everything_in_the_units(tmp_path: Path) -> None:
    # The program is not installed here: everything but its path is what is asked about.
    files = [tmp_path / file.name for file in (UNIT, SOCKET)]
    files[0].write_text(UNIT.read_text().replace("/opt/relay/bin/relay", sys.executable))
    files[1].write_text(SOCKET.read_text())
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *map(str, files)]
    verify = subprocess.run(command, capture_output=True, text=True, check=False)
    about_them = [line for line in (verify.stdout + verify.stderr).splitlines() if "relay.s" in line]
    assert (verify.returncode, about_them) == (0, [])


def test_the_compose_file_starts_the_image_with_settings_that_can_be_used() -> None:
    tree = compose()
    assert tree["services.relay.image"] == f"relay:{__version__}"
    environ = values(tree, "services.relay.environment")
    assert environ.keys() <= {entry.variable for entry in reference()}
    settings = load(None, environ)
    assert all(address.port >= 1024 for address in settings.submission.listen)  # without rights on the host's network
    assert tree["services.relay.network_mode"] == "host" and "services.relay.ports" not in tree
    for variable, value in environ.items():
        assert f"-e {variable}={value} " in INSTALL


def test_the_compose_file_keeps_the_queue_in_a_volume_and_the_rest_read_only() -> None:
    tree = compose()
    (mount,) = values(tree, "services.relay.volumes").values()
    volume, _, folder = mount.partition(":")
    assert f"VOLUME {folder}\n" in DOCKERFILE
    assert values(tree, "volumes") == {volume: ""}
    assert tree["services.relay.read_only"] == "true"


def test_the_version_in_the_commands_is_this_one() -> None:
    text = INSTALL + COMPOSE.read_text()
    versions = re.findall(r"\brelay:([0-9][0-9.]*[0-9])", text)
    assert set(versions) == {__version__} and len(versions) > 3


def test_the_resolver_is_the_one_that_relay_is_told_to_ask() -> None:
    (interface,) = re.findall(r"^    interface: (\S+)$", UNBOUND.read_text(), re.MULTILINE)
    assert [server.host for server in load(SETTINGS_FILE, {}).dns.nameservers] == [interface]


@pytest.mark.unbound
@pytest.mark.skipif(not Path("/usr/sbin/unbound-checkconf").exists(), reason="needs Debian's unbound")
def test_unbound_can_use_its_file() -> None:
    command = ["/usr/sbin/unbound-checkconf", str(UNBOUND)]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr
