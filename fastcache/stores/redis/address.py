"""URLs of Redis: what they say, checked once. Passwords stay out of every text that comes from here."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from fastcache._redact import redacted

#: Scheme -> (mode, TLS). `valkey` is `redis` by another name.
_SCHEMES = {
    f"{name}{s}{plus}": (mode, bool(s))
    for name in ("redis", "valkey")
    for s in ("", "s")
    for plus, mode in (("", "single"), ("+sentinel", "sentinel"), ("+cluster", "cluster"))
}
_PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379}

_BLANK = re.compile(r"[\s\x00-\x1f]")

_FORMS = (
    "redis://[[user]:password@]host[:port][/db], rediss://… (TLS), unix:///path/to/socket[?db=0], "
    "redis+sentinel://host[:port],host[:port]/service[/db], redis+cluster://host[:port],host[:port]"
)


@dataclass(frozen=True)
class Address:
    """Where a server listens. port 0: host is the path of a unix socket."""

    host: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Login:
    """How to get in. credentials: called for each connection, returns (user or None, password)."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    credentials: Callable[[], tuple[str | None, str]] | None = field(default=None, repr=False)

    def words(self) -> tuple[str, ...]:
        """The arguments of AUTH; none where there is no password."""
        username, password = self.username, self.password
        if self.credentials is not None:
            username, password = self.credentials()
        if password is None:
            return ()
        return (password,) if username is None else (username, password)


@dataclass(frozen=True)
class Target:
    """What a URL says. scheme: as errors name it. service: the name that sentinels know."""

    mode: str
    scheme: str
    addresses: tuple[Address, ...]
    db: int
    login: Login
    tls: ssl.SSLContext | None
    service: str = ""

    @property
    def where(self) -> str:
        """The server as errors and logs name it."""
        if self.scheme == "unix":
            return f"unix://{self.addresses[0].host}"
        hosts = ",".join(map(str, self.addresses))
        service = f"/{self.service}" if self.service else ""
        db = f"/{self.db}" if self.db else ""
        return f"{self.scheme}://{hosts}{service}{db}"

    def node(self, address: Address) -> str:
        """One of its servers as errors and logs name it."""
        if not address.port:
            return f"unix://{address.host}"
        return f"{'rediss' if self.tls is not None else 'redis'}://{address}"


def parse(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    credentials: Callable[[], tuple[str | None, str]] | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Target:
    """What the URL says. ValueError names the part that is wrong, and no password; TypeError: not a str.

    Options after '?': db; with TLS ssl_ca_certs, ssl_certfile, ssl_keyfile (paths), ssl_cert_reqs (required, none),
    ssl_check_hostname (true, false).
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    scheme, colon, rest = url.partition("://")
    scheme = scheme.lower()
    if not colon or (scheme not in _SCHEMES and scheme != "unix"):
        raise ValueError(f"url={redacted(url)!r} is none of {_FORMS}")
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    options = _options(url, query)
    found_user, found_password, rest = _login(rest)
    if found_password is None:
        _check_signs(url, fragment, options)
    if scheme == "unix":
        mode, tls = "single", False
        service, db = "", options.pop("db", "0")
        addresses: tuple[Address, ...] = (Address(unquote(rest), 0),)
        if not rest.startswith("/"):
            raise ValueError(f"url={redacted(url)!r}: the socket's path must begin with '/'")
    else:
        mode, tls = _SCHEMES[scheme]
        hosts, _, path = rest.partition("/")
        addresses = tuple(_address(url, part, _PORTS[mode]) for part in hosts.split(","))
        if mode == "single" and len(addresses) != 1:
            raise ValueError(f"url={redacted(url)!r} names several servers: use redis+cluster://")
        service, db = _path(url, mode, path)
        db = options.pop("db", db)
    login = _merged(found_user, found_password, username, password, credentials)
    context = _tls(url, options, tls, ssl_context)
    if options:
        raise ValueError(f"url={redacted(url)!r}: unknown option {sorted(options)[0]!r}")
    return Target(
        mode=mode,
        scheme=scheme,
        addresses=addresses,
        db=_db(url, db, mode),
        login=login,
        tls=context,
        service=service,
    )


def _options(url: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if "password" in options or "username" in options:
        raise ValueError(
            f"url={redacted(url)!r}: the password belongs before the host, as in redis://:password@host"
        )
    return options


def _login(rest: str) -> tuple[str | None, str | None, str]:
    login, at, rest = rest.rpartition("@")
    if not at:
        return None, None, rest
    user, colon, password = login.partition(":")
    return unquote(user) or None, unquote(password) if colon else None, rest


def _check_signs(url: str, fragment: str, options: dict[str, str]) -> None:
    """Whether what follows '?' or '#' was meant for the end of a password."""
    odd = [name + text for name, text in options.items() if not name.startswith("ssl_")]
    if any("@" in text for text in (fragment, *odd)):
        raise ValueError(
            f"url={redacted(url)!r}: '?' and '#' in a password must be percent-encoded: %3F, %23"
        )


def _merged(
    found_user: str | None,
    found_password: str | None,
    username: str | None,
    password: str | None,
    credentials: Callable[[], tuple[str | None, str]] | None,
) -> Login:
    """From the URL (found), or from arguments."""
    for name, given in (("username", username), ("password", password)):
        if not (given is None or isinstance(given, str)):
            raise TypeError(f"{name} must be a str, not {type(given).__name__}")
    if username is None and password is None and credentials is None:
        return Login(found_user, found_password)
    if found_user or found_password is not None:
        raise ValueError("give the password in the url or as an argument, not both")
    if credentials is not None and password is not None:
        raise ValueError("give password or credentials, not both")
    return Login(username or None, password, credentials)


def _address(url: str, text: str, default: int) -> Address:
    host, port = text, ""
    if text.startswith("["):
        host, closing, port = text[1:].partition("]")
        if not closing or (port and not port.startswith(":")):
            raise ValueError(f"url={redacted(url)!r}: no host between the brackets")
        port = port[1:]
    elif ":" in text:
        host, _, port = text.rpartition(":")
        if ":" in host:
            raise ValueError(f"url={redacted(url)!r}: an IPv6 address needs brackets")
    if _BLANK.search(host):
        raise ValueError(f"url={redacted(url)!r}: a host's name has no blanks")
    number = default if not port else 0
    if port.isascii() and port.isdigit() and len(port) < 6:
        number = int(port)
    if not 0 < number < 65536:
        raise ValueError(f"url={redacted(url)!r}: the port is not a number from 1 to 65535")
    return Address(host or "localhost", number)


def _path(url: str, mode: str, path: str) -> tuple[str, str]:
    """(service, db)"""
    if mode != "sentinel":
        return "", path or "0"
    service, _, db = path.partition("/")
    if not service:
        raise ValueError(
            f"url={redacted(url)!r}: the service's name is missing: redis+sentinel://host:port/service"
        )
    return unquote(service), db or "0"


def _db(url: str, text: str, mode: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"url={redacted(url)!r}: db {text!r} is not a number")
    if mode == "cluster" and int(text):
        raise ValueError(f"url={redacted(url)!r}: a cluster has database 0 only")
    return int(text)


def _tls(
    url: str, options: dict[str, str], tls: bool, context: ssl.SSLContext | None
) -> ssl.SSLContext | None:
    given: dict[str, Any] = {
        name: options.pop(name) for name in list(options) if name[:4] == "ssl_"
    }
    if not tls:
        if given or context is not None:
            name = next(iter(given), "ssl_context")
            raise ValueError(f"{name}: only with rediss://, not url={redacted(url)!r}")
        return None
    if context is not None:
        if given:
            raise ValueError(f"{next(iter(given))}: not together with ssl_context")
        return context
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ValueError(f"url={redacted(url)!r}: ssl_keyfile needs ssl_certfile")
    option = "ssl_ca_certs"
    try:
        context = ssl.create_default_context(cafile=given.pop("ssl_ca_certs", None))
        option = "ssl_certfile"
        if option in given:
            context.load_cert_chain(given.pop("ssl_certfile"), given.pop("ssl_keyfile", None))
    except OSError as error:  # of what is in the file as well
        raise ValueError(f"url={redacted(url)!r}: {option}: {error.strerror or error}") from error
    check = given.pop("ssl_check_hostname", "true").lower()
    need = given.pop("ssl_cert_reqs", "required").lower()
    if given:
        raise ValueError(f"url={redacted(url)!r}: unknown option {next(iter(given))!r}")
    if check not in ("true", "false") or need not in ("required", "none"):
        raise ValueError(
            f"url={redacted(url)!r}: ssl_check_hostname is true or false, ssl_cert_reqs is required or none"
        )
    if check == "false" or need == "none":
        context.check_hostname = False
    if need == "none":
        context.verify_mode = ssl.CERT_NONE
    return context
