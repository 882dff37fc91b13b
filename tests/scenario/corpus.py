"""Messages of every shape that mail programs really send, and some that break careless servers. Octets with CRLF."""

from __future__ import annotations

import random
from email import charset, policy
from email.message import EmailMessage
from email.mime.application import MIMEApplication
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

_CRLF = policy.SMTP.clone(max_line_length=78)
_HEADER = b"From: <s@sender.test>\r\nTo: <r@real.test>\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"


def messages() -> dict[str, bytes]:
    """The corpus by name: at least 30 messages, each ending in CRLF unless its name says otherwise."""
    return _by_the_library() | _raw()


def _mail(name: str) -> EmailMessage:
    message = EmailMessage(policy=_CRLF)
    message["From"] = "Sender <s@sender.test>"
    message["To"] = "r@real.test"
    message["Subject"] = name
    message["Message-ID"] = f"<{name}@sender.test>"
    return message


def _by_the_library() -> dict[str, bytes]:
    chance = random.Random(8461)
    made: dict[str, EmailMessage | MIMEMultipart] = {}

    made["plain"] = message = _mail("plain")
    message.set_content("Hello.\n")

    made["quoted-printable"] = message = _mail("quoted-printable")
    message.set_content("Grüße = Umlaute\n" * 40, cte="quoted-printable")

    made["base64-text"] = message = _mail("base64-text")
    message.set_content("Привет, мир\n" * 40, cte="base64")

    made["eight-bit"] = message = _mail("eight-bit")
    message.set_content("Смешной текст, ünï¢ode\n" * 40, cte="8bit")

    made["encoded-words"] = message = _mail("encoded-words")
    message.replace_header(
        "Subject", "日本語の件名と長い長い長い長い長い長い長い長い長い長い長い長い長い件名 mit Umläuten"
    )
    message["Comments"] = "Ünïcödé " * 20
    message.set_content("body\n")

    made["html-alternative"] = message = _mail("html-alternative")
    message.set_content("plain\n")
    message.add_alternative("<html><body><p>h&uuml;bsch</p></body></html>\n", subtype="html")

    made["attachments"] = message = _mail("attachments")
    message.set_content("see attached\n")
    message.add_attachment(
        chance.randbytes(30_000), maintype="application", subtype="pdf", filename="Rechnung März.pdf"
    )
    message.add_attachment("a;b;c\n1;2;3\n", subtype="csv", filename="daten.csv")

    made["inline-image"] = message = _mail("inline-image")
    message.set_content("plain\n")
    message.add_alternative('<img src="cid:pic@x">\n', subtype="html")
    message.get_payload()[1].add_related(chance.randbytes(5_000), "image", "png", cid="<pic@x>")  # type: ignore[index,union-attr]

    made["forwarded"] = message = _mail("forwarded")
    message.set_content("see below\n")
    message.add_attachment(made["html-alternative"])

    outer: MIMEMultipart = MIMEMultipart("mixed")
    layer = outer
    for depth in range(12):
        inner = MIMEMultipart("alternative" if depth % 2 else "related")
        inner.attach(MIMEText(f"layer {depth}\n", "plain", "us-ascii"))
        layer.attach(inner)
        layer = inner
    layer.attach(MIMEApplication(chance.randbytes(1000)))
    outer["Subject"] = "nested"
    made["nested-multiparts"] = outer

    digest = MIMEMultipart("digest")
    for name in ("plain", "quoted-printable"):
        digest.attach(MIMEMessage(made[name]))
    made["digest"] = digest

    eight = charset.Charset("iso-8859-1")
    eight.body_encoding = None  # type: ignore[assignment]
    for size in (100, 1_000, 10_000, 63_000, 70_000, 1_000_000):
        made[f"binary-attachment-{size}"] = message = _mail(f"binary-attachment-{size}")
        message.set_content("data\n")
        message.add_attachment(chance.randbytes(size), maintype="application", subtype="octet-stream")
    return {name: message.as_bytes(policy=_CRLF) for name, message in made.items()}


def _raw() -> dict[str, bytes]:
    chance = random.Random(3207)
    line = b"The quick brown fox jumps over the lazy dog.\r\n"

    def body(octets: bytes, header: bytes = b"") -> bytes:
        return _HEADER + header + b"\r\n" + octets

    latin = "".join(chr(code) for code in range(0xA0, 0x100)).encode("latin-1")
    return {
        "lone-dots": body(b".\r\n..\r\n...\r\n.\r\nend\r\n"),
        "dot-lines": body(b".x\r\n..x\r\n. \r\n x.\r\n" * 50),
        "dot-last": body(b"text\r\n.\r\n"),
        "dot-first": body(b".\r\ntext\r\n"),
        "blank-lines": body(b"\r\n\r\n\r\ntext\r\n\r\n\r\n\r\n"),
        "empty-body": _HEADER + b"\r\n",
        "no-header": b"\r\nonly a body\r\n",
        "spaces-at-ends": body(b"trailing   \r\n\t tabs \t\r\n   \r\n"),
        "latin-1-body": body(latin + b"\r\n"),
        "octets-above-127": body(bytes(range(128, 256)) * 3 + b"\r\n", b"Content-Transfer-Encoding: 8bit\r\n"),
        "utf-8-header": body(b"x\r\n", "Subject: grüße 日本語\r\nX-Uni: é\r\n".encode()),
        "control-characters": body(bytes(code for code in range(1, 32) if code not in (10, 13)) + b"\r\n"),
        "long-lines-998": body((b"x" * 998 + b"\r\n") * 5),
        "folded-header": body(
            b"x\r\n", b"Subject: a\r\n b\r\n\tc\r\n d\r\nReferences: " + b"<a@b.test>\r\n " * 50 + b"<z@b.test>\r\n"
        ),
        "odd-header": body(b"x\r\n", b"X:\r\nY:z\r\nZ:  \r\nFrom-Something: From me\r\n"),
        "from-lines": body(b"From the start\r\n>From here\r\nFrom there\r\n"),
        "dkim-like": body(
            line * 5, b"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple;\r\n\tb=" + b"Ab+/" * 40 + b"\r\n"
        ),
        "smuggling-look": body(b"DATA\r\nMAIL FROM:<x@y.test>\r\nRCPT TO:<z@y.test>\r\nQUIT\r\n"),
        "received-lines": b"Received: from a.test by b.test; Tue, 24 Nov 2026 04:00:00 +0000\r\n" * 12 + body(line),
        "five-megabytes": body(b"".join(chance.randbytes(45).hex().encode() + b"\r\n" for _ in range(57_000))),
        "sixty-four-k-exactly": _padded(body(line * 1200), 65536),
    }


def _padded(octets: bytes, size: int) -> bytes:
    return octets + b"y" * (size - len(octets) - 2) + b"\r\n"
