"""Over 200 odd messages that all have to be signed: what comes out must verify, whatever came in. RFC 6376 section 3.4.

Octets as a client sends them. Those of `bare` Relay takes only from clients whose line ends it mends.
"""

from __future__ import annotations

import base64
import random
from functools import cache

from odd_headers import BODY, FROM, SUBJECT, headers, message

PIECES = (64 * 1024, 256 * 1024)  # in which bodies are read, and of which BDAT is made
_MIME = b"MIME-Version: 1.0\r\n"
_TEXT8 = _MIME + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"


def messages() -> dict[str, bytes]:
    """All but the largest one and those of `bare`, by name; a name could be a local part."""
    return headers() | _bodies() | _long_bodies() | _eight_bit() | _mime()


def bare() -> dict[str, bytes]:
    """Messages with bare CR, bare LF or NUL in them."""
    plain = message(SUBJECT)
    bodies = {
        "bare-lf-body": b"one\ntwo \nthree\n",
        "bare-cr-body": b"one\rtwo \rthree\r\n",
        "bare-mixed": b"one\n\rtwo\r\r\nthree\n\n\r\n",
        "bare-blank-lines": b"one\r\n\n\n\r\r\r\n",
        "bare-nul": b"one\0two \0 three\0\r\n",
        "bare-nul-line-end": b"one \r\0\ntwo\0\r\n",
        "bare-last-lf": b"one\r\ntwo\n",
        "bare-dots": b".\n.\r.\r\n..\n",
    }
    made = {name: message(SUBJECT, body=octets) for name, octets in bodies.items()}
    made["bare-lf-everywhere"] = plain.replace(b"\r\n", b"\n")
    made["bare-cr-everywhere"] = plain.replace(b"\r\n", b"\r")
    made["bare-lf-in-header"] = message(b"Subject: one\n\ttwo\n \r\n three\r\nX-Y: z\n")
    made["bare-nul-in-header"] = message(b"Subject: one\0 two\r\n")
    return made


def mended() -> dict[str, bytes]:
    """Messages whose header Relay completes, or ends before a line that is no field; the envelope sender signs some."""
    return bare() | {
        "no-from": b"To: bob@real.test\r\n" + SUBJECT + b"\r\n" + BODY,
        "no-header": b"\r\n" + BODY,
        "no-header-no-blank-line": b"only text\r\nof two lines\r\n",
        "no-octets": b"",
        "stray-line": FROM + SUBJECT + b"this is no field\r\nX-Y: z\r\n\r\n" + BODY,
        "stray-line-last": FROM + SUBJECT + b"this is no field\r\n",
        "stray-colon": FROM + SUBJECT + b": x\r\n\r\n" + BODY,
        "stray-blank-in-name": FROM + SUBJECT + b"X Y: z\r\n\r\n" + BODY,
        "stray-eight-bit-name": FROM + "Größe: 1\r\n".encode() + SUBJECT + b"\r\n" + BODY,
        "stray-mbox-line": FROM + b">From someone\r\n" + SUBJECT + b"\r\n" + BODY,
        "blank-line-of-blanks": FROM + SUBJECT + b" \t\r\nnot yet the body\r\n\r\n" + BODY,
        "fold-first": b" folded\r\n" + FROM + SUBJECT + b"\r\n" + BODY,
    }


def largest() -> bytes:
    """A message with a body of 10 MB, with blanks in some of its lines, and many empty lines at its end."""
    line = b"The-quick-brown-fox-jumps-over-the-lazy-dog.\r\n"
    lines = (line * 99 + b"The quick  brown fox \t jumps. \r\n") * (10_000_000 // (len(line) * 99))
    return message(SUBJECT, body=lines + b"\r\n" * 1000)


def _bodies() -> dict[str, bytes]:
    bodies = {
        "empty": b"",
        "one-line-end": b"\r\n",
        "two-line-ends": b"\r\n\r\n",
        "hundred-line-ends": b"\r\n" * 100,
        "one-octet": b"x\r\n",
        "one-blank": b" \r\n",
        "blank-lines-of-blanks": b" \r\n\t\r\n \t \r\n",
        "trailing-lines": b"text\r\n\r\n\r\n\r\n",
        "trailing-lines-of-blanks": b"text\r\n \r\n\t\r\n  \r\n",
        "trailing-mixed": b"text \r\n\r\n \r\n\r\n\t \r\n\r\n",
        "leading-lines": b"\r\n\r\n\r\ntext\r\n",
        "inner-lines": b"a\r\n\r\n\r\n\r\nb\r\n\r\n \r\n\r\nc\r\n",
        "trailing-blanks": b"one \r\ntwo\t\r\nthree \t \t\r\n",
        "leading-blanks": b" one\r\n\ttwo\r\n \t three\r\n",
        "runs": b"a  b\tc\t\td \t e\r\n  f   g  \r\n",
        "tabs-only": b"\t\t\t\r\n\t\r\n" * 5 + b"x\r\n",
        "lone-dots": b".\r\n..\r\n...\r\n.\r\nend\r\n",
        "dot-first": b".\r\ntext\r\n",
        "dot-last": b"text\r\n.\r\n",
        "dots-alone": b".\r\n",
        "dots-and-blanks": b". \r\n .\r\n.\t.\r\n. . .\r\n",
        "dot-lines": b".x\r\n..x\r\n. x\r\n" * 40,
        "from-lines": b"From the start\r\n>From here\r\nFrom there\r\n",
        "like-a-header": b"From: x@other.test\r\nSubject: other\r\nDKIM-Signature: v=1\r\n\r\nreal body\r\n",
        "like-smtp": b"DATA\r\nMAIL FROM:<x@y.test>\r\nQUIT\r\n.RSET\r\n",
        "lines-998": (b"x" * 998 + b"\r\n") * 5,
        "line-5000": b"x" * 5000 + b"\r\ny\r\n",
        "line-3000-blanks": b"x  " * 1000 + b"\r\n" + b"y \t" * 1000 + b"\r\n",
        "line-100000": b"0123456789abcde " * 6250 + b"\r\n",
        "lines-998-blanks": (b"x " * 499 + b"\r\n") * 5,
        "line-of-blanks-998": (b" " * 998 + b"\r\n") * 3 + b"x\r\n",
        "controls": bytes(code for code in range(1, 32) if code not in (10, 13)) + b"\x7f\r\n",
        "form-feeds": b"one\x0c\r\n\x0b\r\ntwo \x0c \r\n",
        "no-end": b"no line end",
        "no-end-blanks": b"text  \t",
        "no-end-after-lines": b"text\r\n\r\n ",
        "no-end-dot": b"text\r\n.",
        "equals": b"=\r\n==\r\n=20\r\n=0D=0A\r\n",
        "dashes": b"--\r\n-- \r\n--b--\r\n",
        "many-short-lines": b"x\r\n" * 5000,
        "many-blank-lines": b"x\r\n" + b"\r\n" * 5000 + b"y\r\n",
        "many-blank-lines-end": b"x\r\n" + b"\r\n" * 50_000,
        "many-blanks-end": b"x\r\n" + (b" " * 70 + b"\r\n") * 1000,
        "alternating": b"x \r\n\r\n" * 2000,
    }
    made = {f"body-{name}": message(SUBJECT, body=body) for name, body in bodies.items()}
    whole = message(SUBJECT)
    made["body-none-no-blank-line"] = whole[: whole.index(b"\r\n\r\n") + 2]
    made["body-none-no-end"] = whole[: whole.index(b"\r\n\r\n")]
    return made


def _long_bodies() -> dict[str, bytes]:
    """Bodies that end near the end of a piece, and blanks and line ends that two pieces share."""
    made = {}
    for size in PIECES:
        smaller = size == PIECES[0]
        for by in (-2, -1, 0, 1, 2) if smaller else (-1, 0, 1):
            made[f"body-of-{size + by}"] = message(SUBJECT, body=_lines(size + by))
        start = len(message(SUBJECT, body=b""))
        for name, octets in {
            "blanks": b" \t \t ",
            "blanks-at-end": b" \t \r\n",
            "line-ends": b"\r\n\r\n\r\n\r\n",
            "blank-line": b"\r\n \r\n\t\r\n",
            "dots": b"\r\n.\r\n..\r\n",
        }.items():
            for before in (1, 2, 3) if smaller else (2,):
                # So that the piece of the whole message ends `before` octets into it.
                filled = _lines(size - start - before - 2)[:-2] + b"xx"
                made[f"at-{size}-{name}-{before}"] = message(SUBJECT, body=filled + octets + b"end\r\n")
        filled = _lines(size - start - 1)[:-2] + b"x"
        made[f"at-{size}-last-lines"] = message(SUBJECT, body=filled + b"\r\n" * 8)
    made["body-random"] = message(SUBJECT, body=_random_lines())
    return made


def _lines(size: int) -> bytes:
    """`size` octets of lines, the last of which ends in CRLF."""
    line = b"The quick  brown fox \t jumps over the lazy dog. \r\n"
    filled = (line * (size // len(line)))[: size - 2].rstrip(b"\r\n")
    return filled + b"x" * (size - 2 - len(filled)) + b"\r\n"


@cache
def _random_lines() -> bytes:
    chance = random.Random(6376)
    return b"".join(chance.choices((b" ", b"\t", b"\r\n", b"x", b"\r\n", b".", b"yy"), k=200_000)) + b"\r\n"


def _eight_bit() -> dict[str, bytes]:
    text = "Grüße  aus \t München \r\n\r\n.\r\n.Punkt\r\nFrom hier\r\n".encode()
    latin = bytes(range(160, 256)) + b" \r\n"
    return {
        "eight-bit": message(SUBJECT, _TEXT8, body=text * 20),
        "eight-bit-no-mime": message(SUBJECT, body=text),
        "eight-bit-latin1": message(SUBJECT, _TEXT8.replace(b"utf-8", b"iso-8859-1"), body=latin),
        "eight-bit-labelled-7bit": message(SUBJECT, _TEXT8.replace(b"8bit", b"7bit"), body=text),
        "eight-bit-binary-label": message(SUBJECT, _TEXT8.replace(b"8bit", b"binary"), body=text),
        "eight-bit-html": message(SUBJECT, _TEXT8.replace(b"plain", b"html"), body=b"<p>" + text + b"</p>\r\n"),
        "eight-bit-trailing-lines": message(SUBJECT, _TEXT8, body=text + b"\r\n \r\n\r\n"),
        "eight-bit-no-end": message(SUBJECT, _TEXT8, body="Grüße".encode()),
        "eight-bit-any": message(SUBJECT, _TEXT8, body=bytes(range(128, 256)) * 5 + b"\r\n"),
        "eight-bit-long-lines": message(SUBJECT, _TEXT8, body=("ü" * 499 + "\r\n").encode() * 4),
        "eight-bit-last-octet": message(SUBJECT, _TEXT8, body=_lines(70_000) + b"\xe9\r\n"),
        "eight-bit-image": message(
            _MIME + b"Content-Type: image/png\r\nContent-Transfer-Encoding: 8bit\r\n", body=latin * 3
        ),
        "eight-bit-type-alone": message(b"Content-Type: text/plain\r\n", body=text),
        "eight-bit-label-first": b"Content-Transfer-Encoding: 8BIT\r\n" + message(_MIME, SUBJECT, body=text),
        "eight-bit-label-folded": message(
            _MIME + b"Content-Type:\r\n\ttext/plain\r\nContent-Transfer-Encoding:\r\n 8bit (so)\r\n", body=text
        ),
    }


def _mime() -> dict[str, bytes]:
    text = "Grüße \r\n".encode()
    part = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + text
    ascii_part = b"Content-Type: text/plain\r\n\r\nplain  text \r\n"
    image = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(
        random.Random(8463).randbytes(3000)
    ).replace(b"\n", b"\r\n")
    nested = b"Content-Type: message/rfc822\r\n\r\n" + message(_TEXT8, SUBJECT, body=text)

    def multipart(kind: bytes, *parts: bytes, margin: bytes = b"", label: bytes = b"") -> bytes:
        lines = b"".join(b"--b\r\n" + one + b"\r\n" for one in parts)
        field = b"Content-Type: multipart/" + kind + b'; boundary="b"\r\n' + label
        return message(SUBJECT, _MIME, field, body=margin + lines + b"--b--\r\n" + margin)

    return {
        "mime-mixed": multipart(b"mixed", ascii_part, image),
        "mime-eight-bit": multipart(b"mixed", part, ascii_part, image, label=b"Content-Transfer-Encoding: 8bit\r\n"),
        "mime-eight-bit-first": multipart(b"alternative", part, part.replace(b"plain", b"html")),
        "mime-margins": multipart(b"mixed", part, margin="Präambel\r\n".encode()),
        "mime-blank-margins": multipart(b"mixed", ascii_part, margin=b" \r\n\r\n\t\r\n"),
        "mime-forwarded": multipart(b"mixed", ascii_part, nested),
        "mime-digest": multipart(b"digest", b"\r\n" + message(SUBJECT), b"\r\n" + message(_TEXT8, body=text)),
        "mime-report": multipart(
            b"report", ascii_part, b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n"
        ),
        "mime-message": message(_MIME, b"Content-Type: message/rfc822\r\n", body=message(SUBJECT, body=BODY)),
        "mime-message-eight-bit": message(_MIME, b"Content-Type: message/rfc822\r\n", body=message(_TEXT8, body=text)),
        "mime-no-end": multipart(b"mixed", part)[:-9],
        "mime-quoted-printable": message(
            _MIME,
            b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n",
            body=b"a=20=\r\n=\r\n",
        ),
    }
