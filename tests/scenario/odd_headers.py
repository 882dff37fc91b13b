"""Messages whose header sections are odd: folds, names, values, authors, fields of lists and of other signers.

Every one has a From field of sender.test, of a domain below it, or of bücher.test, so that it is signed.
"""

from __future__ import annotations

FROM = b"From: Ann <ann@sender.test>\r\n"
TO = b"To: Bob <bob@real.test>\r\n"
DATE = b"Date: Thu, 26 Nov 2026 09:00:00 +0000\r\n"
SUBJECT = b"Subject: Hello\r\n"
BODY = b"Dear Bob,\r\n\r\nhello.\r\n"

# What stands between a field's name and its value's end: RFC 5322 sections 2.2.3, 3.2.2 and 4.2.
FOLDS = {
    "space": b"Name: one\r\n two\r\n",
    "tab": b"Name: one\r\n\ttwo\r\n",
    "many": b"Name: one\r\n  \t two  \r\n\t\t three\r\n",
    "after-colon": b"Name:\r\n one\r\n",
    "after-colon-tab": b"Name:\r\n\tone two\r\n",
    "blanks-then-fold": b"Name: \t \r\n one\r\n",
    "blank-line": b"Name: one\r\n \r\n two\r\n",
    "blank-lines": b"Name: one\r\n \t\r\n\t\r\n two\r\n",
    "ends-in-fold": b"Name: one\r\n \r\n",
    "ends-in-blanks": b"Name: one two \t \r\n",
    "no-blank": b"Name:one\r\n",
    "tab-after-colon": b"Name:\tone\ttwo\r\n",
    "runs": b"Name:    one  \t\t  two      three\r\n",
    "empty": b"Name:\r\n",
    "only-blanks": b"Name: \t \r\n",
    "only-folds": b"Name:\r\n \r\n\t\r\n",
    "lower-case": b"name: one\r\n",
    "upper-case": b"NAME: one\r\n",
    "blank-before-colon": b"Name : one\r\n",
    "tab-before-colon": b"Name\t \t: one\r\n two\r\n",
}


def message(*fields: bytes, author: bytes = FROM, body: bytes = BODY, number: int = 0) -> bytes:
    """A message with these fields below the usual ones."""
    return author + TO + DATE + b"Message-ID: <%d@sender.test>\r\n" % number + b"".join(fields) + b"\r\n" + body


def headers() -> dict[str, bytes]:
    """All of them by name; a name could be a local part."""
    return (
        _folded() | _authors() | _repeated() | _strange_values() | _strange_names() | _of_others() | _orders() | _long()
    )


def _folded() -> dict[str, bytes]:
    """Each fold in a field that is signed, and in one that may not be."""
    made = {}
    for name, fold in FOLDS.items():
        for field in (b"Subject", b"X-Odd"):
            octets = fold.replace(b"Name", field).replace(b"name", field.lower()).replace(b"NAME", field.upper())
            made[f"{field.decode().lower()}-{name}"] = message(octets)
    for field, value in ((b"To", b"bob@real.test,"), (b"Cc", b"c@real.test,"), (b"References", b"<1@sender.test>")):
        for name in ("tab", "many", "after-colon", "blank-line", "runs"):
            octets = FOLDS[name].replace(b"Name", field)
            for word in (b"one", b"two"):
                octets = octets.replace(word, value)
            last = octets.replace(b"three", value).rstrip(b", \t\r\n") + b"\r\n"
            made[f"{field.decode().lower()}-{name}"] = FROM + DATE + SUBJECT + last + b"\r\n" + BODY
    return made


def _authors() -> dict[str, bytes]:
    values = {
        "bare": b" ann@sender.test",
        "no-blank": b"ann@sender.test",
        "quoted": b' "Ann, of Sender" <ann@sender.test>',
        "quoted-local": b' "ann the great"@sender.test',
        "quoted-at": b' "ann@other.test" <ann@sender.test>',
        "quoted-brackets": b' "<ann@other.test>" <ann@sender.test>',
        "quoted-pairs": b' "A\\"n\\\\n" <ann@sender.test>',
        "comment": b" Ann (of <x@other.test>) <ann@sender.test>",
        "comment-nested": b" Ann (a (b (c\\) d) e)) <ann@sender.test> (end)",
        "comment-alone": b" ann@sender.test (Ann)",
        "encoded-word": b" =?utf-8?q?=C3=84nn?= <ann@sender.test>",
        "encoded-at": b" =?utf-8?q?x=40other=2Etest?= <ann@sender.test>",
        "encoded-base64": b" =?utf-8?B?QW5uIDx4QG90aGVyLnRlc3Q+?= <ann@sender.test>",
        "encoded-two": b" =?utf-8?q?=C3=84?=\r\n =?utf-8?q?nn?= <ann@sender.test>",
        "folded": b"\r\n Ann\r\n\t<ann@sender.test>",
        "folded-blank-line": b" Ann\r\n \r\n <ann@sender.test>",
        "blanks": b"   Ann  \t  Other   <ann@sender.test> \t ",
        "upper-case": b" Ann <Ann@SENDER.Test>",
        "subdomain": b" Ann <ann@mail.sender.test>",
        "deep-subdomain": b" Ann <ann@a.b.c.d.e.sender.test>",
        "group": b" Friends: Ann <ann@sender.test>, Eve <eve@sender.test>;",
        "two": b" Ann <ann@sender.test>, Eve <eve@sender.test>",
        "two-folded": b" Ann <ann@sender.test>,\r\n\tEve <eve@sender.test>",
        "twenty": b",\r\n".join(b" A%d <a%d@sender.test>" % (n, n) for n in range(20)),
        "a-label": b" Ann <ann@xn--bcher-kva.test>",
        "a-label-no-blank": b"Ann <ann@xn--bcher-kva.test>",
        "u-label": " Ann <ann@bücher.test>".encode(),
        "utf8-name": " Änn Müller <ann@sender.test>".encode(),
        "utf8-local": " Änn <änn@sender.test>".encode(),
        "comma-in-name": b" Smith, Ann <ann@sender.test>",
        "at-in-name": b" ann@other.test <ann@sender.test>",
        "latin1-name": b" \xc4nn <ann@sender.test>",
        "brackets-in-name": b" Ann [Sales] <ann@sender.test>",
        "empty-member": b" Ann <ann@sender.test>,",
        "semicolon": b" Ann <ann@sender.test>; Eve <eve@sender.test>",
        "route": b" Ann <@a.test,@b.test:ann@sender.test>",
        "blanks-in-address": b" ann @ sender.test",
        "unclosed": b" Ann <ann@sender.test",
        "dots-in-name": b" A. N. N. <ann@sender.test>",
        "plus": b" <ann+a=b#c$d@sender.test>",
        "atext": b" <!#$%&'*+/?=^_`{|}~-@sender.test>",
        "long-name": b' "' + b"A" * 800 + b'" <ann@sender.test>',
    }
    made = {f"from-{name}": message(SUBJECT, author=b"From:" + value + b"\r\n") for name, value in values.items()}
    made["from-with-sender"] = message(SUBJECT, b"Sender: Office <office@sender.test>\r\n")
    made["from-two-with-sender"] = message(
        b"Sender: eve@sender.test\r\n", author=b"From: a@sender.test, eve@sender.test\r\n"
    )
    made["from-blank-before-colon"] = message(SUBJECT, author=b"From : Ann <ann@sender.test>\r\n")
    made["from-mixed-case"] = message(SUBJECT, author=b"fROM: Ann <ann@sender.test>\r\n")
    made["from-like-fields"] = message(b"From-Me: x@other.test\r\nX-From: y@other.test\r\nFromage: brie\r\n")
    return made


def _repeated() -> dict[str, bytes]:
    """More of a field than RFC 5322 section 3.6 allows, or all that it allows."""
    fields = {
        "two-subjects": b"Subject: first\r\nSubject: second\r\n",
        "two-subjects-alike": SUBJECT * 2,
        "two-subjects-apart": b"Subject: first\r\nX-Between: x\r\nSubject:\r\n\tsecond\r\n",
        "three-tos": b"To: c@real.test\r\nTo: d@real.test\r\n",
        "three-tos-cases": b"TO: c@real.test\r\nto: d@real.test\r\n",
        "two-ccs": b"Cc: c@real.test\r\nCC: d@real.test\r\n",
        "two-reply-tos": b"Reply-To: x@sender.test\r\nReply-To: y@sender.test\r\n",
        "two-dates": b"Date: Thu, 26 Nov 2026 10:00:00 +0000\r\n",
        "two-message-ids": b"Message-ID: <again@sender.test>\r\n",
        "two-mime-versions": b"MIME-Version: 1.0\r\nMIME-Version: 1.0\r\n",
        "two-content-types": b"Content-Type: text/plain\r\nContent-Type: text/html\r\n",
        "two-in-reply-tos": b"In-Reply-To: <a@b.test>\r\nIn-Reply-To: <c@d.test>\r\n",
        "two-references": b"References: <a@b.test>\r\nReferences: <c@d.test>\r\n",
        "ten-subjects": b"".join(b"Subject: %d\r\n" % n for n in range(10)),
        "many-comments": b"Comments: again and again\r\n" * 30,
        "many-keywords": b"".join(b"Keywords: word%d\r\n" % n for n in range(30)),
        "two-of-all": (SUBJECT + b"Reply-To: a@b.test\r\nCc: c@d.test\r\nIn-Reply-To: <e@f.test>\r\n") * 2,
    }
    return {name: message(octets) for name, octets in fields.items()}


def _strange_values() -> dict[str, bytes]:
    values = {
        "semicolons": b" a; b=c; d=e;;; bh=x; h=from:to; b=",
        "tag-list": b" v=1; a=rsa-sha256; d=other.test; s=x; b=abc; bh=def; h=from",
        "colons": b" a:b::c:::d:",
        "equals": b" ======",
        "like-a-field": b" From: x@other.test",
        "like-a-signature": b" DKIM-Signature: v=1; b=xxx",
        "crlf-in-words": b" \\r\\n From: x =0D=0A %0d%0a",
        "quotes": b' "unclosed (quote <and [brackets',
        "backslashes": b" \\\\\\ \\",
        "dots": b" .\r\n .\r\n ..",
        "controls": b" a\x01b\x02c\x08d\x0ee\x1bf\x7f",
        "encoded-words": b" =?utf-8?q?=E2=82=AC?= =?iso-8859-1?q?=FC?=\r\n =?utf-8?b?4oKs?=",
        "utf8": " Grüße aus München € 日本語".encode(),
        "utf8-folded": " Grüße\r\n\taus  München".encode(),
        "utf8-blanks": " a\u00a0b\u2003c\u3000d\u2028e".encode(),
        "latin1": b" Gr\xfc\xdfe",
        "no-charset": b" \x80\x81\xfe\xff\xc0\xaf",
        "form-feed-at-end": b" one \x0c",
        "vertical-tabs": b" a\x0bb \x0b\x0c c",
        "nbsp-at-end": b" one \xa0",
        "nel-at-end": b" one \x85",
        "percent": b" %s %n %d %%",
        "long-word": b" " + b"x" * 700,
        "998": b" " + b"x" * (998 - len(b"Subject: ")),
        "one-blank-many-folds": b" a" + b"\r\n b" * 200,
        "only-tabs-between": b"\ta\t\tb\t\t\tc",
    }
    return {f"subject-{name}": message(b"Subject:" + value + b"\r\n") for name, value in values.items()}


def _strange_names() -> dict[str, bytes]:
    return {
        "name-mixed-case": message(b"sUBJECT: x\r\ncC: c@real.test\r\nmime-VERSION: 1.0\r\n"),
        "name-all-upper": b"FROM: ann@sender.test\r\nTO: b@real.test\r\nDATE:"
        + DATE[5:]
        + b"SUBJECT: X\r\n\r\n"
        + BODY,
        "name-all-lower": b"from: ann@sender.test\r\nto: b@real.test\r\ndate:"
        + DATE[5:]
        + b"subject: x\r\n\r\n"
        + BODY,
        "name-one-letter": message(b"X: y\r\nA:\r\nz:z\r\n"),
        "name-punctuation": message(b'!#$%&\'*+-./^_`|~: x\r\n(x): y\r\n<a>: b\r\n;=: c\r\n"q": d\r\n'),
        "name-digits": message(b"123: x\r\n0: y\r\n"),
        "name-long": message(b"X-" + b"a" * 300 + b": x\r\n"),
        "name-h-like": message(b"h: from\r\nb: abc\r\nbh: def\r\nv: 1\r\n"),
        "name-dashes": message(b"-: x\r\n--: y\r\nSubject-: z\r\n-Subject: z\r\n"),
    }


_RECEIVED = (
    b"Received: from a.test (a.test [192.0.2.1])\r\n\tby b.test with ESMTP id 1;\r\n"
    b"\tThu, 26 Nov 2026 08:00:00 +0000\r\n"
)
_DKIM = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=other.test;\r\n\ts=x; t=1764147600;\r\n"
    b"\th=from:to:subject; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\tb=" + b"Ab+/" * 40 + b"=\r\n"
)


def _of_others() -> dict[str, bytes]:
    """Fields that other servers, lists and signers write."""
    arc = (
        b"ARC-Seal: i=1; a=rsa-sha256; t=1764147600; cv=none; d=other.test; s=x; b=abc=\r\n"
        b"ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=other.test; s=x;\r\n h=from; bh=x=; b=y=\r\n"
        b"ARC-Authentication-Results: i=1; mx.other.test; dkim=pass header.d=sender.test\r\n"
    )
    tops = {
        "received-twelve": _RECEIVED * 12,
        "received-ninety": b"Received: from a.test by b.test; Thu, 26 Nov 2026 08:00:00 +0000\r\n" * 90,
        "dkim-of-another": _DKIM,
        "dkim-three-of-others": _DKIM * 3,
        "dkim-broken": b"DKIM-Signature: this is no tag list\r\nDKIM-Signature:\r\n",
        "dkim-same-domain": _DKIM.replace(b"d=other.test", b"d=sender.test"),
        "dkim-lower-case": _DKIM.replace(b"DKIM-Signature", b"dkim-signature"),
        "domainkey": b"DomainKey-Signature: a=rsa-sha1; q=dns; c=nofws; d=other.test; s=x; b=abc\r\n",
        "arc": arc,
        "arc-and-dkim": arc + _DKIM,
        "auth-results": b"Authentication-Results: mx.other.test; dkim=pass header.d=x.test; spf=pass\r\n",
        "received-spf": b"Received-SPF: pass (x: y) client-ip=192.0.2.1;\r\n",
        "resent": b"Resent-From: eve@sender.test\r\nResent-To: c@real.test\r\nResent-Date:" + DATE[5:],
        "resent-two-blocks": (
            b"Resent-Date:" + DATE[5:] + b"Resent-From: eve@sender.test\r\nResent-To: c@real.test\r\n"
            b"Resent-Message-ID: <r@sender.test>\r\n"
        )
        * 2,
        "resent-sender": b"Resent-Sender: x@sender.test\r\nResent-From: eve@sender.test\r\nResent-Cc: d@real.test\r\n",
    }
    made = {name: top + message(SUBJECT) for name, top in tops.items()}
    fields = {
        "list": (
            b"List-Id: Friends <friends.sender.test>\r\nList-Post: <mailto:friends@sender.test>\r\n"
            b"List-Unsubscribe: <https://sender.test/u?a=1;b=2>,\r\n <mailto:u@sender.test?subject=x>\r\n"
            b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nList-Help: <https://sender.test/>\r\n"
        ),
        "list-two-ids": b"List-Id: <a.sender.test>\r\nList-ID: <b.sender.test>\r\n",
        "precedence": b"Precedence: bulk\r\nAuto-Submitted: auto-generated\r\n",
        "tls-required": b"TLS-Required: No\r\n",
        "bcc": b"Bcc: secret@real.test\r\n",
        "return-path": b"Return-Path: <x@sender.test>\r\n",
        "mailer": b"X-Mailer: x\r\nUser-Agent: y (z)\r\nOrganization: Sender\r\n",
        "mime": b"MIME-Version: 1.0 (made by hand)\r\nContent-Type: text/plain;\r\n\tcharset=us-ascii\r\n",
        "content-fields": b"Content-Language: de\r\nContent-ID: <x@y>\r\nContent-Description: d\r\n",
        "disposition": b"Disposition-Notification-To: ann@sender.test\r\nReturn-Receipt-To: ann@sender.test\r\n",
        "dkim-below": _DKIM,
        "received-below": _RECEIVED,
        "x-fields": b"".join(b"X-Field-%d: %d\r\n" % (n, n) for n in range(200)),
    }
    return made | {name: message(SUBJECT, octets) for name, octets in fields.items()}


def _orders() -> dict[str, bytes]:
    """The usual fields in other orders, and fewer of them."""
    return {
        "from-last": TO + DATE + SUBJECT + FROM + b"\r\n" + BODY,
        "from-alone": FROM + b"\r\n" + BODY,
        "from-and-subject": FROM + SUBJECT + b"\r\n" + BODY,
        "no-to": FROM + DATE + SUBJECT + b"\r\n" + BODY,
        "no-date": FROM + TO + SUBJECT + b"\r\n" + BODY,
        "no-message-id": FROM + TO + DATE + SUBJECT + b"\r\n" + BODY,
        "subject-first": SUBJECT + TO + FROM + DATE + b"\r\n" + BODY,
        "empty-to": FROM + b"To:\r\nCc: \r\nSubject:\r\nReply-To:\r\n" + DATE + b"\r\n" + BODY,
        "undisclosed": FROM + b"To: undisclosed-recipients:;\r\n" + DATE + b"\r\n" + BODY,
        "from-mbox-line": b"From ann@sender.test Thu Nov 26 09:00:00 2026\r\n" + message(SUBJECT),
    }


def _long() -> dict[str, bytes]:
    references = b"References: " + b"\r\n ".join(b"<%024d@sender.test>" % n for n in range(750)) + b"\r\n"
    return {
        "references-30k": message(SUBJECT, references),
        "references-one-line": message(
            b"References: " + b" ".join(b"<%d@sender.test>" % n for n in range(50)) + b"\r\n"
        ),
        "cc-five-hundred": message(
            b"Cc: " + b",\r\n\t".join(b"Name %d <n%d@real.test>" % (n, n) for n in range(500)) + b"\r\n"
        ),
        "subject-folded-10k": message(b"Subject:" + b"\r\n word word word word" * 500 + b"\r\n"),
        "subject-one-line-1500": message(b"Subject: " + b"fifteen " * 187 + b"\r\n"),
        "references-one-line-5000": message(b"References: " + b"<a@b.test> " * 450 + b"\r\n"),
        "subject-900": message(b"Subject: " + b"nine" * 225 + b"\r\n"),
        "header-60k": message(b"".join(b"X-%d: " % n + b"v" * 900 + b"\r\n" for n in range(60))),
    }
