"""Makes the `Settings` from one TOML file and the environment, and names every mistake in them at once.

The environment wins over the file, the file over the defaults. Also here: what follows from the settings before
anything runs (the folder, our name) and the example file. Nothing here writes a file.
"""

from __future__ import annotations

import difflib
import json
import re
import socket
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from relay.contradictions import Name, contradictions, unusable_files
from relay.setting_types import PEM_BEGIN
from relay.settings import Section, Settings, Written

_PREFIX = "RELAY_"
_RESERVED = frozenset(("RELAY_STATE", "RELAY_CONFIG"))  # read elsewhere
_LARGEST_FILE = 1 << 20
_TOML_PLACE = re.compile(r"(.*) \(at line ([0-9]+), column ([0-9]+)\)\Z", re.DOTALL)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")
_SHOWN_LENGTH = 60
_PLAIN_WORDS = {  # for pydantic's kinds of error
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text in quotes",
    "tuple_type": "must be a list in brackets",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


class ConfigError(Exception):
    """The settings cannot be used. `problems`: every mistake found, one line each, with its place."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Reference:
    """One setting as it is documented. `type`, `default` (as TOML) and `description` are for people."""

    section: str
    key: str
    type: str
    default: str
    description: str

    @property
    def name(self) -> str:
        """The name in the file: submission.listen."""
        return f"{self.section}.{self.key}" if self.section else self.key

    @property
    def variable(self) -> str:
        """The name in the environment: RELAY_SUBMISSION__LISTEN."""
        return _PREFIX + (f"{self.section}__{self.key}" if self.section else self.key).upper()


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings from the file (None: no file) and the environment's `RELAY_` variables, checked.

    Raises ConfigError with all mistakes: syntax, unknown names, wrong values, settings that contradict each other,
    files that cannot be read.
    """
    return _load(path, environ, check_files=True)


def load_without_files(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The same, but the files that the settings name need not exist: for the command that makes one of them."""
    return _load(path, environ, check_files=False)


def _load(path: Path | None, environ: Mapping[str, str], check_files: bool) -> Settings:
    values, problems = _read_file(path) if path is not None else ({}, [])
    file_is_readable = not problems
    variables = _apply_environment(values, environ, problems)

    def where(name: Name) -> str:
        """How a problem with this setting begins: its variable, or the file and its name there."""
        return variables.get(name) or f"{path}: {_dotted(name)}"

    settings, broken = Settings(), set[Name]()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += [_problem(found, where) for found in error.errors()]
        broken = {_name_of(found["loc"]) for found in error.errors()}
        settings = Settings.model_validate(_without(values, broken))
    if file_is_readable:  # otherwise half of the settings is missing, and what fits together can't be known
        findings = [*contradictions(settings), *(unusable_files(settings) if check_files else ())]
        problems += [f"{where(names[0])}: {text}" for names, text in findings if broken.isdisjoint(names)]
    if problems:
        raise ConfigError(tuple(problems))
    return settings


def _read_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The file's values, or what is wrong with it."""
    try:
        with path.open("rb") as file:
            octets = file.read(_LARGEST_FILE + 1)
        if len(octets) > _LARGEST_FILE:
            return {}, [f"{path}: is too large for a settings file"]
        return tomllib.loads(octets.decode("utf-8-sig")), []
    except OSError as error:
        return {}, [f"{path}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return {}, [f"{path}: line {line}: is not UTF-8 text"]
    except tomllib.TOMLDecodeError as error:
        place = _TOML_PLACE.match(str(error))
        text = f"line {place[2]}, column {place[3]}: {place[1]}" if place else str(error)
        return {}, [f"{path}: {text}"]
    except ValueError as error:  # a number with thousands of digits
        return {}, [f"{path}: {error}"]
    except RecursionError:
        return {}, [f"{path}: is nested too deeply"]


def _apply_environment(values: dict[str, Any], environ: Mapping[str, str], problems: list[str]) -> dict[Name, str]:
    """Put the environment's settings over those of the file. Returns which variable set what."""
    known = {entry.variable: entry for entry in reference()}
    used: dict[Name, str] = {}
    for variable in sorted(name for name in environ if name.startswith(_PREFIX) and name not in _RESERVED):
        if variable in known:
            entry = known[variable]
            section = values.setdefault(entry.section, {}) if entry.section else values
            if isinstance(section, dict):  # a section that is none is reported as that
                section[entry.key] = _from_text(_field(entry.section, entry.key).annotation, environ[variable])
                used[entry.section, entry.key] = variable
        # Without two underscores it may be no attempt at a setting: Kubernetes sets RELAY_PORT and more.
        elif "__" in variable or _looks_like(variable, known):
            problems.append(f"{variable}: {_unknown_variable(variable, known)}")
    return used


def _unknown_variable(variable: str, known: Collection[str]) -> str:
    section = variable.partition("__")[0]
    table = section.removeprefix(_PREFIX).lower()
    if table in _tables():
        return f"is no setting: [[{table}]] can stand in the settings file only"
    beside = [name for name in known if name.startswith(section)]
    sections = dict.fromkeys(re.sub(r"__.*", "__...", name) for name in known)
    return f"unknown setting{_hint(variable, beside or known, shown=beside or sections)}"


def _looks_like(variable: str, known: Collection[str]) -> bool:
    """Whether it is one of these names, misspelt: one underscore for two, in lower case, or a letter wrong."""
    plain = {name.replace("__", "_") for name in known}
    return bool(difflib.get_close_matches(variable.upper(), plain, 1, 0.93))


def _from_text(annotation: Any, text: str) -> object:
    """The value that the file would hold. What cannot be one is left as text, for validation to complain of."""
    if get_origin(annotation) is tuple:
        try:
            as_json = json.loads(text)
        except ValueError:
            as_json = None
        return as_json if isinstance(as_json, list) else [part.strip() for part in text.split(",")] if text else []
    if annotation is bool:
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if annotation is int and _INTEGER.match(text.strip()):
        return int(text)
    return text


def _field(section: str, key: str) -> FieldInfo:
    return (_sections()[section] if section else Settings).model_fields[key]


def _sections() -> dict[str, type[Section]]:
    annotations = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: kind for name, kind in annotations.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _tables() -> dict[str, type[Section]]:
    """The sections that there may be several of."""
    kinds = {name: get_args(field.annotation)[:1] for name, field in Settings.model_fields.items()}
    return {name: kind[0] for name, kind in kinds.items() if kind and issubclass(kind[0], Section)}


def _name_of(place: tuple[int | str, ...]) -> Name:
    """The setting that a place belongs to: of [[override]] it is the whole list."""
    first = str(place[0])
    return (first, str(place[1])) if len(place) > 1 and first in _sections() else ("", first)


def _without(values: Mapping[str, Any], broken: set[Name]) -> dict[str, Any]:
    """The values without the broken ones."""
    return {
        name: {key: item for key, item in value.items() if (name, key) not in broken}
        if isinstance(value, dict)
        else value
        for name, value in values.items()
        if ("", name) not in broken
    }


def _dotted(place: tuple[int | str, ...]) -> str:
    """submission.listen[0]"""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part:
            text += ("." if text else "") + (part if _BARE_KEY.match(part) else json.dumps(part))
    return text


def _problem(found: Any, where: Callable[[Name], str]) -> str:
    """One line for one of pydantic's errors."""
    place = found["loc"]
    name = _name_of(place)
    inside = _dotted(place[2 if name[0] else 1 :])
    if inside and not inside.startswith("["):
        inside = f".{inside}"
    return f"{where(name)}{inside}: {_words(found)}"


def _words(found: Any) -> str:
    """What is wrong, in our words."""
    kind, value, context = found["type"], found["input"], found.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown setting{_known_beside(found['loc'])}"
    if kind == "missing":
        return "is missing"
    if kind in ("model_type", "model_attributes_type"):
        return f"must be a section that begins with [{found['loc'][0]}] (got {_shown(value)})"
    if kind == "tuple_type" and isinstance(value, dict) and found["loc"][0] in _tables():
        return f"must be written [[{found['loc'][0]}]], with two brackets: there may be several"
    if kind in _PLAIN_WORDS:
        text = _PLAIN_WORDS[kind]
    elif kind == "value_error":
        text = str(context["error"])
    elif kind == "enum":
        text = f"must be {context['expected']}"
    elif kind == "greater_than_equal":
        text = f"must be at least {context['ge']}"
    elif kind == "less_than_equal":
        text = f"must be at most {context['le']}"
    else:
        text = str(found["msg"])
    return text if isinstance(value, dict) else f"{text} (got {_shown(value)})"


def _shown(value: object) -> str:
    """A value as the file would have it, cut short."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    if PEM_BEGIN in text:
        return "a key"  # it would be in logs and tickets
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 4] + " ..."


def _known_beside(place: tuple[int | str, ...]) -> str:
    section = str(place[0]) if len(place) > 1 else ""
    key = str(place[-1])
    kinds = {**_sections(), **_tables()}
    known = list((kinds[section] if section else Settings).model_fields)
    elsewhere = [entry.name for entry in reference() if entry.key == key]
    return _hint(key, known, elsewhere)


def _hint(
    wrong: str, known: Collection[str], elsewhere: Collection[str] = (), shown: Collection[str] | None = None
) -> str:
    """What there is (`shown`, where `known` is too much), and what the writer may have meant."""
    close = [match for text in (wrong, wrong.upper()) for match in difflib.get_close_matches(text, known, n=1)][:1]
    meant = f" (did you mean {' or '.join(close or elsewhere)}?)" if close or elsewhere else ""
    return f"; known here: {', '.join(known if shown is None else shown)}{meant}"


def state_folder(settings: Settings, environ: Mapping[str, str]) -> Path:
    """The one folder Relay writes to: queue.path, else $RELAY_STATE, else the user's folder for state.

    It need not exist yet. Raises ConfigError when there is no home folder to put it in.
    """
    if settings.queue.path is not None:
        return settings.queue.path
    if environ.get("RELAY_STATE"):
        return Path(environ["RELAY_STATE"])
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if base.is_absolute():  # the XDG base directory specification: others are to be ignored
        return base / "relay"
    try:
        return Path(environ.get("HOME") or Path.home()) / ".local" / "state" / "relay"
    except RuntimeError:
        raise ConfigError(("queue.path: must be set: there is no home folder",)) from None


def hostname(settings: Settings) -> str:
    """Our name in EHLO, Received and notices: the setting, else the machine's full name, else its short name."""
    if settings.hostname:
        return settings.hostname
    names = [name for name in map(_usable_name, (socket.getfqdn(), socket.gethostname())) if name]
    full = [name for name in names if "." in name and not name.endswith((".arpa", ".localdomain"))]
    return next(iter(full + names), "localhost")


def _usable_name(name: str) -> str:
    try:
        return Settings(hostname=name).hostname
    except ValidationError:
        return ""


def reference() -> tuple[Reference, ...]:
    """All settings in the order of the file."""
    defaults = Settings().model_dump(mode="json")
    entries = [("", "hostname", Settings.model_fields["hostname"], defaults["hostname"])]
    for section, kind in _sections().items():
        entries += [(section, key, field, defaults[section][key]) for key, field in kind.model_fields.items()]
    return tuple(
        Reference(section, key, _type(field.annotation, field.metadata), json.dumps(default), field.description or "")
        for section, key, field, default in entries
    )


def table_reference() -> tuple[Reference, ...]:
    """The keys of the tables that there may be several of. A `default` that is empty: the key must be given."""
    return tuple(
        Reference(table, key, _type(field.annotation, field.metadata), _table_default(field), field.description or "")
        for table, kind in _tables().items()
        for key, field in kind.model_fields.items()
    )


def _table_default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.default.value if isinstance(field.default, Enum) else field.default
    return json.dumps(value if value is not None else "")


def _type(annotation: Any, metadata: list[Any]) -> str:
    """How a setting's type is called."""
    written = [item.name for item in metadata if isinstance(item, Written)]
    if written:
        return str(written[0])
    if get_origin(annotation) is tuple:
        return f"list of {_type(get_args(annotation)[0], [])}"
    if get_origin(annotation) is Annotated:
        inner, *rest = get_args(annotation)
        return _type(inner, rest)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(str(member.value) for member in annotation)
    return {bool: "true or false", int: "whole number", str: "text"}[annotation]


def example() -> str:
    """A settings file with every setting, its description and, commented out, its default."""
    lines = [
        "# Settings of Relay. Every setting is shown with its default; take away the # in front of those you change.",
        "# Each can come from the environment too: RELAY_HOSTNAME, RELAY_SUBMISSION__LISTEN, ...",
        "# `relay config check FILE` names every mistake.",
    ]
    section = ""
    for entry in reference():
        if entry.section != section:
            section = entry.section
            about = (_sections()[section].__doc__ or "").strip()
            lines += ["", f"[{section}]", f"# {about}"]
        lines += ["", f"# {entry.description} ({entry.type})", f"#{entry.key} = {entry.default}"]
    for table, kind in _tables().items():
        lines += ["", f"# [[{table}]]", f"# {(kind.__doc__ or '').strip()}"]
        lines += [
            f"# {entry.key} = {entry.default or '...'}  # {entry.type}: {entry.description}"
            for entry in table_reference()
            if entry.section == table
        ]
    return "\n".join(lines) + "\n"
