"""Asks the operator's own service whether a name and a password are good (`login.url`).

Yes is 200 with `{"ok": true}` and nothing else is; `"login"` beside it is the name to go by. No is 401, 403 or
`{"ok": false}`. Anything else means that it could not be asked, and the client is told to try again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from relay.files import read_word
from relay.submission.claims import is_login, json_object
from relay.submission.https import Answer, Https


@dataclass(frozen=True, slots=True)
class Question:
    """What the service is asked. `client` is the address, `listener` the name of the place where it came in."""

    name: str
    password: str = field(repr=False)
    client: str
    listener: str
    mechanism: str


@dataclass(frozen=True, slots=True)
class Unasked:
    """The service could not be asked, or did not answer as it should."""

    reason: str


class LoginService:
    """The service at `url`; `token_file` holds the bearer token that it knows us by.

    `tell` hears after each question why it could not be asked, or None when it could.
    """

    def __init__(self, url: str, token_file: Path | None, https: Https, tell: Callable[[str | None], None]) -> None:
        self._url = url
        self._token_file = token_file
        self._https = https
        self._tell = tell

    async def ask(self, question: Question) -> str | Unasked | None:
        """The login, or None when name and password are no good."""
        found = await self._post(question)
        self._tell(found.reason if isinstance(found, Unasked) else None)
        return found

    async def _post(self, question: Question) -> str | Unasked | None:
        headers = {}
        if self._token_file is not None:
            try:
                headers["Authorization"] = f"Bearer {read_word(self._token_file)}"
            except OSError as error:
                return Unasked(f"{self._token_file} cannot be read: {error.strerror}")
            except ValueError as error:
                return Unasked(str(error))
        content = {
            "name": question.name,
            "password": question.password,
            "client": question.client,
            "listener": question.listener,
            "mechanism": question.mechanism,
        }
        answer = await self._https.post(self._url, headers, content)
        if isinstance(answer, str):
            return Unasked(f"the login service could not be asked: {answer}")
        return _verdict(answer, question.name)


def _verdict(answer: Answer, name: str) -> str | Unasked | None:
    if answer.status in (401, 403):
        return None
    if answer.status != 200:
        return Unasked(f"the login service answered {answer.status}")
    found = json_object(answer.body)
    if found is None or not isinstance(found.get("ok"), bool):
        return Unasked('the login service did not answer {"ok": true} or {"ok": false}')
    if not found["ok"]:
        return None
    login = found.get("login", name)
    return login if is_login(login) else Unasked("the login service gave a login that cannot be one")
