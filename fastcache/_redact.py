"""Texts that may have a password in them, as error messages show them."""

from __future__ import annotations

import re

#: What stands after a colon and is not a port, up to the end of the host; IPv6 addresses are in brackets.
_NO_PORT = re.compile(r":(?![0-9]{1,5}([,/]|$))[^],/]+(?![^[]*\])")
#: In a connection string.
_SETTING = re.compile(r"(?i)(pass\w*|pwd|secret|auth)(\s*=\s*)('[^']*'?|\S+)")


def redacted(url: str) -> str:
    """A URL of which nothing is known, without what could be a password."""
    head, at, tail = url.rpartition("@")
    tail = tail.partition("?")[0]
    if at:
        scheme, colon, _ = head.partition("://")
        return f"{scheme}://***@{tail}" if colon else f"***@{tail}"
    scheme, colon, rest = tail.rpartition("://")
    return scheme + colon + _NO_PORT.sub(":***", rest)


def shown(given: object) -> str:
    """An argument that is not what it should be: its repr, without what could be a password of a URL or a connection
    string."""
    text: object = given
    if isinstance(given, bytes):
        text = given.decode("utf-8", "replace")
    if not isinstance(text, str):
        return repr(given)
    safe = redacted(text) if "@" in text or "://" in text else text
    safe = _SETTING.sub(r"\1\2***", safe)
    return repr(given) if safe == text else repr(safe)
