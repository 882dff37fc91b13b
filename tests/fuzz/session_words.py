"""What clients say: whole sessions out of a grammar, and changes to them by lines and by octets."""

from __future__ import annotations

from random import Random

from mutation import by_octets

MAX_OCTETS = 6000
END = b".\r\n"
LOGIN = b"AUTH PLAIN AHVzZXIAcGVuY2ls\r\n"  # the one user, with the right password
HELLOS = (b"EHLO client.test\r\n",) * 8 + (
    b"HELO client.test\r\n", b"EHLO [192.0.2.1]\r\n", b"EHLO \xff\r\n", b"EHLO\r\n", b"ehlo x\r\n", b"HELO\r\n",
)  # fmt: skip
MAILS = (b"MAIL FROM:<a@a.test>\r\n",) * 8 + (
    b"MAIL FROM:<>\r\n",
    b"mail from: <a@a.test> size=100 body=8bitmime\r\n",
    b"MAIL FROM:<a@a.test> SMTPUTF8 RET=HDRS ENVID=x\r\n",
    "MAIL FROM:<\u00e4@a.test> SMTPUTF8\r\n".encode(),
    "MAIL FROM:<\u00e4@a.test>\r\n".encode(),
    b'MAIL FROM:<"a > b"@a.test> AUTH=<>\r\n',
    b"MAIL FROM:<a@a.test> REQUIRETLS\r\n",
    b"MAIL FROM:<a@a.test> SIZE=1025\r\n",
    b"MAIL FROM:<a@a.test> SIZE=1 SIZE=1\r\n",
    b"MAIL FROM:<a@a.test> X=1\r\n",
    b"MAIL FROM:<a@[IPv6:2001:db8::1]> BODY=7BIT\r\n",
    b"MAIL FROM:<a@a.test> HOLDFOR=60 BY=120;N MT-PRIORITY=3\r\n",
    b"MAIL FROM:<a@a.test> HOLDUNTIL=2026-03-05T00:00:00Z\r\n",
    b"MAIL FROM:<a@a.test> BY=0;R\r\n",
    b"MAIL FROM:a@a.test\r\n",
    b"MAIL FROM:<@c.test:a@a.test>\r\n",
)
RCPTS = (b"RCPT TO:<b@b.test>\r\n", b"RCPT TO:<c@b.test>\r\n") * 5 + (
    b"RCPT TO:<B@B.test> NOTIFY=NEVER\r\n",
    b"rcpt to:<d@[192.0.2.9]> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;d+2B@b.test\r\n",
    "RCPT TO:<\u00f6@\u00fc.test>\r\n".encode(),
    b'RCPT TO:<"x@y"@b.test>\r\n',
    b"RCPT TO:<b%c.test@b.test>\r\n",
    b"RCPT TO:<>\r\n",
    b"RCPT TO:<postmaster>\r\n",
    b"RCPT TO:<@c.test:b@b.test>\r\n",
    b"RCPT TO:<b@b.test> NOTIFY=NEVER,DELAY\r\n",
    b"".join(b"RCPT TO:<r%d@b.test>\r\n" % number for number in range(101)),
)
CONTENTS = (b"Subject: x\r\n\r\nhello\r\n",) * 4 + (
    b"",
    b"\r\n",
    b"..\r\n...x\r\n",
    b"From: a@a.test\r\nBcc: c@b.test,\r\n d@b.test\r\nDate: today\r\n\r\nBcc: x\r\n",
    b"From: a@a.test\r\nfrom : b@a.test\r\n\r\nx\r\n",
    b"From a@a.test\r\nSubject: x\r\nno field\r\n\r\nx\r\n",
    b" x\r\nSubject: x\r\n\r\n",
    b"Return-Path: <x>\r\nMessage-ID: <1@a>\r\nResent-Bcc:\r\n\r\n",
    b"Subject: x\r\nTLS-Required: No\r\n\r\n\xff\xfe\r\n",
    b"x\n.\nMAIL FROM:<e@e.test>\r\n",
    b"x\n.\r\nMAIL FROM:<e@e.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nevil\r\n",
    b"x\r\n.\rRSET\r\n",
    b"x\r.\r\r\n",
    b"x\r\r\n.\r\r\n",
    b"x\0y\r\n",
    b"x\r\n\0.\r\n",
    b"Received: x\r\n" * 101 + b"\r\n",
    b"x" * 1020 + b"\r\n",
    b"x" * 1022 + b"\r\n",
    b"x" * 1023 + b"\r\n",
    b"x" * 3000 + b"\r\n",
    b"QUIT\r\nRSET\r\nDATA\r\n",
)
LOGINS = (LOGIN,) * 4 + (
    b"AUTH PLAIN\r\nAHVzZXIAcGVuY2ls\r\n",
    b"AUTH LOGIN\r\ndXNlcg==\r\ncGVuY2ls\r\n",
    b"auth login dXNlcg==\r\ncGVuY2ls\r\n",
    b"AUTH PLAIN dXNlcgB1c2VyAHBlbmNpbA==\r\n",
    b"AUTH PLAIN cm9vdAB1c2VyAHBlbmNpbA==\r\n",
    b"AUTH PLAIN AHVzZXIAcGVuY2lz\r\n",
    b"AUTH PLAIN\r\n*\r\n",
    b"AUTH PLAIN =\r\n",
    b"AUTH LOGIN\r\n*\r\n",
    b"AUTH LOGIN\r\n\r\n\r\n",
    b"AUTH CRAM-MD5\r\n",
    b"AUTH EXTERNAL =\r\n",
    b"AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9YWJj\r\nYz1iaXdzLHI9YWJj\r\n",
    b"AUTH OAUTHBEARER bixhPXVzZXIsAWF1dGg9QmVhcmVyIHgBAQ==\r\nAQ==\r\n",
    b"AUTH XOAUTH2 dXNlcj11c2VyAWF1dGg9QmVhcmVyIHgBAQ==\r\n\r\n",
    b"AUTH\r\n",
)
OTHERS = (
    b"NOOP\r\n", b"NOOP x\r\n", b"RSET\r\n", b"RSET\r\n", b"RSET x\r\n", b"VRFY b\r\n", b"EXPN s\r\n", b"HELP\r\n",
    b"ETRN b.test\r\n", b"STARTTLS\r\n", b"STARTTLS\r\n", b"STARTTLS x\r\n", b"QUIT x\r\n", b"FROB\r\n", b"\r\n",
    b" \r\n", b"NOOP\n", b"NOOP\rRSET\r\n", b"\0\r\n", b"NOOP " + b"x" * 600 + b"\r\n",
    b"NOOP " + b"x" * 3000 + b"\r\n",
    b"DATA\r\n", b"DATA x\r\n", b"PROXY TCP4 192.0.2.1 127.0.0.1 1 25\r\n", b"XCLIENT ADDR=192.0.2.1\r\n", b".\r\n",
    b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x00\x05\x01\r\n", b"\xff\xf4\xff\xfd\x06NOOP\r\n", b"smtp_EHLO x\r\n",
)  # fmt: skip
BDATS = (b"BDAT 14 LAST\r\nSubject: x\r\n\r\n",) * 3 + (
    b"BDAT 14\r\nSubject: x\r\n\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 0\r\n",
    b"bdat 5 last\r\nx\r\n.\r",
    b"BDAT 1\r\n\r",
    b"BDAT 1 LAST\r\n\n",
    b"BDAT 3\r\nx\ny",
    b"BDAT 2 LAST\r\nx\0",
    b"BDAT 6\r\nRSET\r\n",
    b"BDAT 6 LAST\r\nRSET\r\n",
    b"BDAT 6 LATE\r\nRSET\r\n",
    b"BDAT 6 LAST\nRSET\r\n",
    b"BDAT\t6\r\nRSET\r\n",
    b" BDAT 6\r\nRSET\r\n",
    b"BDAT 6 " + b" " * 2100 + b"LAST\r\nRSET\r\n",
    b"BDATX 6\r\n",
    b"BDAT\r\n",
    b"BDAT x\r\n",
    b"BDAT -1\r\n",
    b"BDAT 99999999999999999999 LAST\r\n",
    b"BDAT 1025 LAST\r\n" + b"x" * 1023 + b"\r\n",
    b"BDAT 1024 LAST\r\n" + b"x" * 1022 + b"\r\n",
    b"BDAT 600\r\n" + b"y" * 600,
)
LINES = HELLOS + MAILS + RCPTS + CONTENTS + LOGINS + BDATS + OTHERS + (b"DATA\r\n", END, b"QUIT\r\n")
_by_octets = by_octets((
    *OTHERS, b"\r\n", b"\n", b"\r", b"\0", b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r\n.\n", b".", b"<", b">", b'"', b" ",
    b"\t", b"@", b"MAIL FROM:", b"RCPT TO:", b"DATA\r\n", b"SIZE=", b"SMTPUTF8", b"=", b"*", b"AUTH PLAIN ",
))  # fmt: skip


def session(random: Random) -> bytes:
    """Who it is, and what it says: mostly in an order that makes sense."""
    said = [bytes((random.choice((1, 1, 1, 33, 3, 17, 49, 6, 6, 38, 0, 2, 16, 9, 65, random.randrange(128))),))]

    def maybe(share: float, *lines: bytes) -> None:
        if random.random() < share:
            said.append(random.choice(lines))

    maybe(0.95, *HELLOS)
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        maybe(0.1, *OTHERS)
        maybe(0.05, b"STARTTLS\r\n")
        maybe(0.1, *HELLOS)
        maybe(0.15, *LOGINS)
        maybe(0.95, *MAILS)
        maybe(0.1, *OTHERS)
        said += random.choices(RCPTS, k=random.choice((0, 1, 1, 1, 2, 4)))
        maybe(0.1, *OTHERS)
        if random.random() < 0.3:
            said += random.choices(BDATS, k=random.choice((1, 1, 2, 3)))
            continue
        maybe(0.9, b"DATA\r\n")
        maybe(0.9, *CONTENTS)
        maybe(0.95, END)
    maybe(0.3, b"QUIT\r\n")
    return b"".join(said)


def mutate(random: Random, octets: bytes) -> bytes:
    """Another session: a new one, or this one changed by lines, or by octets."""
    chance = random.random()
    if chance < 0.4 or not octets:
        octets = session(random)
    if chance < 0.3:
        return octets[:MAX_OCTETS]
    octets = _by_lines(random, octets) if chance < 0.75 else octets[:1] + _by_octets(random, octets[1:])
    if random.random() < 0.1:
        octets = bytes((random.randrange(128),)) + octets[1:]
    return octets[:MAX_OCTETS]


def _by_lines(random: Random, octets: bytes) -> bytes:
    lines = octets[1:].splitlines(keepends=True)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(lines) + 1)
        match random.randrange(5):
            case 0 | 1:
                lines.insert(at, random.choice(LINES))
            case 2:
                del lines[at : at + 1]
            case 3:
                lines[at:at] = lines[at : at + random.randrange(1, 6)]
            case _:
                piece, to = lines[at : at + 1], random.randrange(len(lines) + 1)
                del lines[at : at + 1]
                lines[to:to] = piece
    return octets[:1] + b"".join(lines)
