"""Loading: file and environment together, every mistake named once, in one line, with its place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import (
    ConfigError,
    example,
    hostname,
    load,
    load_without_files,
    reference,
    state_folder,
    table_reference,
)
from relay.settings import HostPort, Settings

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes relay.toml into a folder of its own, and goes there, so that problems begin with `relay.toml:`."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes) -> Path:
        path = Path("relay.toml")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(path: Path | None, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def test_without_file_and_environment_all_is_default() -> None:
    assert load(None, {}) == Settings()


def test_an_empty_file_is_a_file_of_defaults(write: Write) -> None:
    assert load(write(""), {}) == Settings()


def test_the_file_is_read(write: Write) -> None:
    settings = load(
        write('hostname = "mail.example.org"\n[submission]\nlisten = ["[::1]:25"]\n[retry]\nschedule = ["1m", "2h"]\n'),
        {},
    )
    assert settings.hostname == "mail.example.org"
    assert settings.submission.listen == (HostPort(host="::1", port=25),)
    assert settings.retry.schedule == (timedelta(minutes=1), timedelta(hours=2))


@pytest.mark.parametrize(
    "text", [b'\xef\xbb\xbfhostname = "a.example"\n', b'hostname = "a.example"\r\n'], ids=["BOM", "CRLF"]
)
def test_files_as_windows_writes_them(write: Write, text: bytes) -> None:
    assert load(write(text), {}).hostname == "a.example"


FILES: list[tuple[str | bytes, str]] = [
    ("x = \n", r"relay.toml: line 1, column 5: Invalid value"),
    ("[submission]\n[submission]\n", r"relay.toml: line 2, column 12: Cannot declare \('submission',\) twice"),
    ('hostname = "a"\nhostname = "b"\n', r"relay.toml: line 2, column \d+: Cannot overwrite a value"),
    ('hostname = "a', r"relay.toml: Unterminated string \(at end of document\)"),
    (b'\n\nhostname = "m\xe4il"\n', r"relay.toml: line 3: is not UTF-8 text"),
    ('hostname = "a"\n'.encode("utf-16"), r"relay.toml: line 1: is not UTF-8 text"),
    ("x = " + "[" * 100_000, r"relay.toml: is nested too deeply"),
    ("x = " + "9" * 5000, r"relay.toml: Exceeds the limit .*"),
    ("#" * (1 << 20) + "#", r"relay.toml: is too large for a settings file"),
    ("a\0b = 1\n", r"relay.toml: line 1, column 2: .*"),
]


@pytest.mark.parametrize(("text", "words"), FILES, ids=lambda case: repr(case)[:30])
def test_what_is_no_toml(write: Write, text: str | bytes, words: str) -> None:
    (problem,) = problems(write(text))
    assert re.fullmatch(words, problem)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert problems(tmp_path / "none") == (f"{tmp_path}/none: cannot be read: No such file or directory",)
    assert problems(tmp_path) == (f"{tmp_path}: cannot be read: Is a directory",)


def test_a_broken_file_does_not_hide_the_mistakes_of_the_environment(tmp_path: Path) -> None:
    found = problems(tmp_path / "none", {"RELAY_MTA_STS__PORT": "x", "RELAY_SUBMISSION__TLS_KEY": "/none"})
    assert found == (
        f"{tmp_path}/none: cannot be read: No such file or directory",
        'RELAY_MTA_STS__PORT: must be a whole number (got "x")',
    )


SECTIONS = (
    "hostname, submission, login, sendmail, queue, dns, tls, delivery, mta_sts, tls_memory, retry, notices, dkim, "
    "alignment, tlsrpt, admin, listener, client, route, destination, override, source, dkim_key"
)
VALUES: list[tuple[str, str]] = [
    (
        '[submission]\nlisten = ["x"]',
        'submission.listen[0]: must be host:port, such as 192.0.2.1:25 or [2001:db8::1]:25 (got "x")',
    ),
    ('[submission]\nlisten = "127.0.0.1:25"', 'submission.listen: must be a list in brackets (got "127.0.0.1:25")'),
    ("[submission]\nmax_recipients = 5", "submission.max_recipients: must be at least 100 (got 5)"),
    ("[submission]\nmax_recipients = true", "submission.max_recipients: must be a whole number (got true)"),
    ("[delivery]\nport = 25.0", "delivery.port: must be a whole number (got 25.0)"),
    ("[delivery]\nport = 99999", "delivery.port: must be at most 65535 (got 99999)"),
    (
        '[delivery]\nallow_private_addresses = "no"',
        'delivery.allow_private_addresses: must be true or false (got "no")',
    ),
    ("[retry]\nschedule = []", "retry.schedule: must not be empty (got [])"),
    (
        "[retry]\nexpire = nan",
        'retry.expire: must be a number and a unit (s, m, h, d, w) in quotes, such as "15m" or "5d" (got NaN)',
    ),
    ("[dns]\ntrust_ad = 1979-05-27", "dns.trust_ad: must be 'auto', 'yes' or 'no' (got \"1979-05-27\")"),
    ("hostname = 5", "hostname: must be text in quotes (got 5)"),
    ("submission = 5", "submission: must be a section that begins with [submission] (got 5)"),
    ("[[submission]]\n", "submission: must be a section that begins with [submission] (got [{}])"),
    ("[submision]\n", f"submision: unknown setting; known here: {SECTIONS} (did you mean submission?)"),
    ("[mta_sts]\nprot = 1", "mta_sts.prot: unknown setting; known here: port (did you mean port?)"),
    ("[mta_sts]\nzzz = 1", "mta_sts.zzz: unknown setting; known here: port"),
    ("next_hop = 1", f"next_hop: unknown setting; known here: {SECTIONS} (did you mean delivery.next_hop?)"),
    ('"a\\nb" = 1', f'"a\\nb": unknown setting; known here: {SECTIONS}'),
    (
        '[submission]\nlisten = ["127.0.0.1:25", "127.0.0.1:26", "127.0.0.1:25"]',
        "submission.listen: 127.0.0.1:25 is there twice",
    ),
    (
        '[submission]\nlisten = ["127.0.0.1:25"]\n[admin]\nlisten = ["127.0.0.1:25"]',
        "admin.listen: 127.0.0.1:25 is there twice",
    ),
    ('[sendmail]\nuser = "me"', "sendmail.user: needs sendmail.password_file beside it"),
    ('[sendmail]\npassword_file = "p"', "sendmail.password_file: needs sendmail.user beside it"),
    (
        '[sendmail]\nserver = "mail.example.org:587"\ntls = "none"\nuser = "me"\npassword_file = "p"',
        "sendmail.tls: must not be none: a password is not sent to another machine without TLS",
    ),
    (
        "[submission]\nlisten = []",
        "submission.listen: is empty, like submission.listen_tls, and there is no [[listener]]: no mail would be taken",
    ),
    (
        '[submission]\nlisten_tls = ["127.0.0.1:465"]',
        "submission.listen_tls: needs submission.tls_certificate and submission.tls_key",
    ),
    (
        '[submission]\nlisten = ["0.0.0.0:25"]\n[delivery]\nnext_hop = "127.0.0.1:25"',
        "delivery.next_hop: 127.0.0.1:25 is this relay itself: mail would go in a circle",
    ),
    (
        '[submission]\nlisten = ["192.0.2.1:25"]\n[delivery]\nnext_hop = "192.0.2.1:25"',
        "delivery.next_hop: 192.0.2.1:25 is this relay itself: mail would go in a circle",
    ),
    (
        '[delivery]\nnext_hop = "localhost:2525"',
        "delivery.next_hop: localhost:2525 is this relay itself: mail would go in a circle",
    ),
    (
        'hostname = "out.example"\n[delivery]\nnext_hop = "OUT.example:2525"',
        "delivery.next_hop: out.example:2525 is this relay itself: mail would go in a circle",
    ),
    (
        '[delivery]\nfallback = "localhost:2525"',
        "delivery.fallback: localhost:2525 is this relay itself: mail would go in a circle",
    ),
    (
        '[delivery]\nnext_hop = "smart.example:25"\nfallback = "smart.example:587"',
        "delivery.fallback: is for mail that goes directly, and delivery.next_hop takes all mail",
    ),
    ('[delivery]\nfallback = "backup"', "delivery.fallback: there is no [[route]] with the name backup"),
    (
        '[tls_memory]\non_loss = "defer"\ndefer_for = "2d"',
        "tls_memory.defer_for: must be shorter than retry.tls_policy_expire (2d): mail would come back, not just wait",
    ),
    (
        '[tls_memory]\non_loss = "defer"\ndefer_for = "5d"\n[retry]\ntls_policy_expire = ""',
        "tls_memory.defer_for: must be shorter than retry.expire (5d): mail would come back, not just wait",
    ),
    ("[retry]\ndelay_notice = 4", "retry.delay_notice: must be a list in brackets (got 4)"),
    (
        '[retry]\ndelay_notice = ["4h", "0s"]',
        'retry.delay_notice[1]: must be longer than zero (got "0s")',
    ),
    ('[retry]\nunknown = "drop"', "retry.unknown: must be 'retry', 'hold' or 'fail' (got \"drop\")"),
    ('[retry]\ndns_schedule = "1m"', 'retry.dns_schedule: must be a list in brackets (got "1m")'),
    (
        '[tls_memory]\non_loss = "defer"\n[retry]\nexpire = "90m"',
        "tls_memory.defer_for: must be shorter than retry.expire (90m): mail would come back, not just wait",
    ),
    ('[tls]\nca_file = "/none"', "tls.ca_file: /none cannot be read: No such file or directory"),
    ('[tls]\nca_file = "/dev/null"', "tls.ca_file: /dev/null is not a file"),
    ('[tls]\nca_file = "/"', "tls.ca_file: / is not a file"),
    ('[queue]\npath = "relay.toml"', "queue.path: relay.toml is not a folder"),
]


@pytest.mark.parametrize(("text", "problem"), VALUES, ids=lambda case: repr(case)[:30])
def test_each_mistake_in_its_words(write: Write, text: str, problem: str) -> None:
    assert problems(write(text)) == (f"relay.toml: {problem}",)


GOOD: list[str] = [
    '[submission]\nlisten = ["127.0.0.1:0", "127.0.0.1:0"]',  # two free ports
    '[submission]\nlisten = ["127.0.0.1:2525", "[::1]:2525"]',
    '[delivery]\nnext_hop = "127.0.0.1:25"',  # another server on this machine
    '[delivery]\nnext_hop = "smart.example:2525"',
    '[queue]\npath = "not/there/yet"',
    '[tls_memory]\non_loss = "defer"\ndefer_for = "47h"',
    '[tls_memory]\non_loss = "defer"\ndefer_for = "119h"\n[retry]\ntls_policy_expire = ""',
    '[tls_memory]\non_loss = "defer"\ndefer_for = "119h"\n[retry]\ntls_policy_expire = "6d"',  # nothing lives longer
    '[retry]\ndns_schedule = ["1d"]\ndns_expire = "1h"',  # then the first wait is an hour
    '[tls_memory]\non_loss = "warn"\ndefer_for = "5d"',
]


@pytest.mark.parametrize("text", GOOD)
def test_what_goes_together(write: Write, text: str) -> None:
    load(write(text), {})


def test_certificate_key_and_users_belong_together(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (alone,) = problems(write('[submission]\ntls_certificate = "file"'))
    assert alone == "relay.toml: submission.tls_certificate: needs submission.tls_key beside it"
    (alone,) = problems(write('[submission]\ntls_key = "file"'))
    assert alone == "relay.toml: submission.tls_key: needs submission.tls_certificate beside it"
    (alone,) = problems(write('[submission]\nusers_file = "file"'))
    assert alone.startswith("relay.toml: submission.users_file: needs submission.tls_certificate")
    load(write('[submission]\ntls_certificate = "file"\ntls_key = "file"\nusers_file = "file"'), {})


def test_all_mistakes_come_at_once(write: Write) -> None:
    path = write(
        'hostname = "a b"\nextra = 1\n[submission]\nlisten = ["x", "127.0.0.1:25", "y"]\ntls_certificate = "/none/c"\n'
        'tls_key = 5\nusers_file = "/none/u"\n[retry]\nexpire = 5\n'
    )
    places = [problem.split(": ")[:2] for problem in problems(path, {"RELAY_DNS__TIMEOUT": "soon"})]
    assert places == [
        ["relay.toml", "hostname"],
        ["relay.toml", "submission.listen[0]"],
        ["relay.toml", "submission.listen[2]"],
        ["relay.toml", "submission.tls_key"],
        [
            "RELAY_DNS__TIMEOUT",
            'must be a number and a unit (s, m, h, d, w) in quotes, such as "15m" or "5d" (got "soon")',
        ],
        ["relay.toml", "retry.expire"],
        ["relay.toml", "extra"],
        ["relay.toml", "submission.tls_certificate"],
        ["relay.toml", "submission.users_file"],
    ]


def test_a_long_value_is_shown_in_part(write: Write) -> None:
    (problem,) = problems(write(f'hostname = "{"a" * 5000}"'))
    assert problem.endswith("aaa ...)") and len(problem) < 6000


ENVIRONMENT: list[tuple[str, str, Callable[[Settings], object], object]] = [
    ("RELAY_HOSTNAME", "a.example", lambda settings: settings.hostname, "a.example"),
    ("RELAY_MTA_STS__PORT", "8443", lambda settings: settings.mta_sts.port, 8443),
    (
        "RELAY_DELIVERY__ALLOW_PRIVATE_ADDRESSES",
        "True",
        lambda settings: settings.delivery.allow_private_addresses,
        True,
    ),
    ("RELAY_SUBMISSION__MAX_MESSAGE_SIZE", "10M", lambda settings: settings.submission.max_message_size, 10 << 20),
    ("RELAY_SUBMISSION__MAX_MESSAGE_SIZE", "2048", lambda settings: settings.submission.max_message_size, 2048),
    ("RELAY_RETRY__SCHEDULE", "1s, 2s", lambda settings: len(settings.retry.schedule), 2),
    ("RELAY_RETRY__SCHEDULE", '["1s", "2s", "3s"]', lambda settings: len(settings.retry.schedule), 3),
    ("RELAY_RETRY__DELAY_NOTICE", "", lambda settings: settings.retry.delay_notice, ()),
    ("RELAY_RETRY__DELAY_NOTICE", "4h", lambda settings: len(settings.retry.delay_notice), 1),
    ("RELAY_RETRY__DELAY_NOTICE", "4h, 1d", lambda settings: len(settings.retry.delay_notice), 2),
    ("RELAY_RETRY__DNS_SCHEDULE", "", lambda settings: settings.retry.dns_schedule, ()),
    ("RELAY_RETRY__DNS_EXPIRE", "", lambda settings: settings.retry.dns_expire, None),
    ("RELAY_RETRY__UNKNOWN", "hold", lambda settings: settings.retry.unknown.value, "hold"),
    ("RELAY_RETRY__EXPIRE_HELD", "false", lambda settings: settings.retry.expire_held, False),
    ("RELAY_SUBMISSION__LISTEN", "[::1]:25", lambda settings: settings.submission.listen[0].host, "::1"),
    ("RELAY_SUBMISSION__TRUSTED_NETWORKS", "", lambda settings: settings.submission.trusted_networks, ()),
    ("RELAY_QUEUE__PATH", "/var/spool/x", lambda settings: settings.queue.path, Path("/var/spool/x")),
]


@pytest.mark.parametrize(("variable", "text", "read", "expected"), ENVIRONMENT, ids=lambda case: repr(case)[:40])
def test_the_environment(variable: str, text: str, read: Callable[[Settings], object], expected: object) -> None:
    assert read(load(None, {variable: text})) == expected


def test_the_environment_wins_over_the_file(write: Write) -> None:
    path = write('hostname = "file.example"\n[mta_sts]\nport = "bad"\n[delivery]\nport = 26\n')
    settings = load(path, {"RELAY_HOSTNAME": "env.example", "RELAY_MTA_STS__PORT": "444"})
    assert (settings.hostname, settings.mta_sts.port, settings.delivery.port) == ("env.example", 444, 26)


IGNORED = [
    "RELAY_PORT",
    "RELAY_SERVICE_HOST",
    "RELAY_PORT_2525_TCP_ADDR",
    "RELAY_STATE",
    "RELAY_CONFIG",
    "relay_x__y",
    "RELAYX__Y",
]


@pytest.mark.parametrize("variable", IGNORED)
def test_variables_of_others_are_left_alone(variable: str) -> None:
    assert load(None, {variable: "tcp://10.0.0.1:2525"}) == Settings()


def test_mistakes_in_the_environment_name_the_variable(tmp_path: Path) -> None:
    environ = {
        "RELAY_SUBMISSION__LISTEN": "127.0.0.1:1,x",
        "RELAY_DELIVERY__ALLOW_PRIVATE_ADDRESSES": "1",
        "RELAY_DELIVERY__CONCURRENCY": "many",
        "RELAY_TLS__CA_FILE": f"{tmp_path}/none",
        "RELAY_MTA_STS__PROT": "1",
        "RELAY_WRONG__SUCH": "1",
        "RELAY_submission__listen": "1",
    }
    found = problems(None, environ)
    assert (
        found[0]
        == "RELAY_MTA_STS__PROT: unknown setting; known here: RELAY_MTA_STS__PORT (did you mean RELAY_MTA_STS__PORT?)"
    )
    assert found[1].startswith(
        "RELAY_WRONG__SUCH: unknown setting; known here: RELAY_HOSTNAME, RELAY_SUBMISSION__..., RELAY_LOGIN__..., "
    )
    assert len(found[1]) < 400
    assert found[2].startswith("RELAY_submission__listen: unknown setting; ")
    assert found[3].startswith("RELAY_SUBMISSION__LISTEN[1]: must be host:port")
    assert found[4:] == (
        'RELAY_DELIVERY__ALLOW_PRIVATE_ADDRESSES: must be true or false (got "1")',
        'RELAY_DELIVERY__CONCURRENCY: must be a whole number (got "many")',
        f"RELAY_TLS__CA_FILE: {tmp_path}/none cannot be read: No such file or directory",
    )


@pytest.mark.parametrize("table", ["route", "destination", "override", "source"])
def test_tables_do_not_come_from_the_environment(table: str) -> None:
    variable = f"RELAY_{table.upper()}__NAME"
    assert problems(None, {variable: "x"}) == (
        f"{variable}: is no setting: [[{table}]] can stand in the settings file only",
    )


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("RELAY_HOSTNAM", "RELAY_HOSTNAME"),
        ("RELAY_hostname", "RELAY_HOSTNAME"),
        ("RELAY_DELIVERY_PORT", "RELAY_DELIVERY__PORT"),
        ("RELAY_SUBMISSION_LISTEN", "RELAY_SUBMISSION__LISTEN"),
    ],
)
def test_a_misspelt_variable_is_a_mistake(variable: str, meant: str) -> None:
    (problem,) = problems(None, {variable: "1"})
    assert problem.startswith(f"{variable}: unknown setting")
    assert f"did you mean {meant}?" in problem


def test_a_variable_for_a_section_that_is_none(write: Write) -> None:
    (problem,) = problems(write("tls = 5"), {"RELAY_TLS__CA_FILE": "/none"})
    assert problem == "relay.toml: tls: must be a section that begins with [tls] (got 5)"


def test_the_users_file_may_be_about_to_be_made(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = write('[submission]\ntls_certificate = "file"\ntls_key = "file"\nusers_file = "users"')
    assert len(problems(path)) == 1
    assert load_without_files(path, {}).submission.users_file == Path("users")


@given(octets=st.binary(max_size=60) | st.text("[]=\"'#.\n\\ au0submission", max_size=60).map(str.encode))
def test_any_octets_give_settings_or_problems(octets: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(octets)
    try:
        load(path, {})
    except ConfigError as error:
        assert error.problems and not any("\n" in problem for problem in error.problems)


@given(st.dictionaries(st.sampled_from([entry.variable for entry in reference()]), st.text(max_size=12), max_size=3))
def test_any_environment_gives_settings_or_problems(environ: dict[str, str]) -> None:
    try:
        load(None, environ)
    except ConfigError as error:
        assert error.problems
        assert all(problem.startswith(tuple(environ)) for problem in error.problems)


STATE: list[tuple[str, dict[str, str], str]] = [
    ("/a", {"RELAY_STATE": "/b", "XDG_STATE_HOME": "/c", "HOME": "/d"}, "/a"),
    ("", {"RELAY_STATE": "/b", "XDG_STATE_HOME": "/c", "HOME": "/d"}, "/b"),
    ("", {"RELAY_STATE": "", "XDG_STATE_HOME": "/c", "HOME": "/d"}, "/c/relay"),
    ("", {"XDG_STATE_HOME": "c", "HOME": "/d"}, "/d/.local/state/relay"),
    ("", {"HOME": "/d"}, "/d/.local/state/relay"),
]


@pytest.mark.parametrize(("setting", "environ", "folder"), STATE)
def test_the_state_folder(setting: str, environ: dict[str, str], folder: str) -> None:
    settings = load(None, {"RELAY_QUEUE__PATH": setting})
    assert state_folder(settings, environ) == Path(folder)


def test_our_name_is_the_setting_or_one_that_a_server_would_take() -> None:
    assert hostname(Settings(hostname="out.example.org")) == "out.example.org"
    name = hostname(Settings())
    assert Settings(hostname=name).hostname == name != ""


def test_the_example_is_a_file_of_defaults(write: Write) -> None:
    assert load(write(example()), {}) == Settings()
    every_line = re.sub(r"^#(?! )", "", example(), flags=re.MULTILINE)
    assert load(write(every_line), {}) == Settings()
    assert len(re.findall(r"^[a-z0-9_]+ = ", every_line, re.MULTILINE)) == len(reference())


def test_the_tables_of_the_example_can_be_taken_in() -> None:
    text = re.sub(r"^# (\[\[|[a-z0-9_]+ = )", r"\1", example(), flags=re.MULTILINE).replace(" = ...", ' = "x"')
    tables = {name: value[0] for name, value in tomllib.loads(text).items() if isinstance(value, list)}
    assert {(name, key) for name, table in tables.items() for key in table} == {
        (entry.section, entry.key) for entry in table_reference()
    }


def test_every_setting_is_described() -> None:
    for entry in reference():
        assert entry.description and entry.type, entry.name
