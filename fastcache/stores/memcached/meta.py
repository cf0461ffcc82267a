"""memcached's meta protocol: commands as bytes, and replies out of bytes as they come. Does no input or output.

Every command carries an opaque number (`O`), which comes back with its reply: a reply that belongs to another
command is found out whatever caused it, and its connection is not used again.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Bytes of a line, and of a value, beyond which an answer counts as garbage.
_LINE = 4096
_LARGEST = 64 << 20
#: Codes of replies that have flags and no data.
_CODES = frozenset((b"HD", b"EN", b"NF", b"NS", b"EX"))

_SUCCESS = (b"VA", b"HD")
_NONE: Mapping[bytes, int] = {}

#: Of the commonest `mg`: its flags -> those that bring numbers.
_WANTS = {b"v f t": b"ft", b"v": b"", b"v f t c": b"ftc"}

_opaque = itertools.count()


class ProtocolError(Exception):
    """An answer that makes no sense, or an error after which nobody knows what comes next. kind: as of StoreError."""

    def __init__(self, text: str, kind: str = "protocol") -> None:
        super().__init__(text)
        self.kind = kind


class Command(NamedTuple):
    """data: the bytes to send. opaque: what its reply bears; None: it is not a meta command, and its reply ends with
    a line that `last` begins. wants: letters of flags whose numbers a success has to bring."""

    data: bytes
    opaque: bytes | None
    wants: bytes = b""
    last: bytes = b""


class Reply(NamedTuple):
    """code: two letters, or b"SERVER_ERROR". numbers: the arguments of the flags that were wanted, by letter. data: of
    VA, or the text of an error or of other replies."""

    code: bytes
    numbers: Mapping[bytes, int]
    data: bytes

    def number(self, letter: bytes) -> int:
        """The argument of a flag, one of those that the command wanted."""
        return self.numbers[letter]


def get(key: bytes, flags: bytes = b"v f t") -> Command:
    """`mg`: v for the data, f the client's flags, t the seconds left, c the number for compare-and-swap."""
    opaque = b"%x" % (next(_opaque) & 0xFFFFFFFF)
    wants = _WANTS.get(flags)
    if wants is None:
        wants = b"".join([flag for flag in flags.split(b" ") if flag in (b"c", b"f", b"t")])
    return Command(b"mg %b %b O%b\r\n" % (key, flags, opaque), opaque, wants)


def put(key: bytes, data: bytes, flags: bytes) -> Command:
    """`ms`: F the client's flags, T seconds to live, ME only if absent, C only if unchanged, c its new number."""
    opaque = b"%x" % (next(_opaque) & 0xFFFFFFFF)
    line = b"ms %b %d %b O%b\r\n%b\r\n" % (key, len(data), flags, opaque, data)
    return Command(line, opaque, b"c" if flags.endswith(b" c") else b"")


def delete(key: bytes, flags: bytes = b"") -> Command:
    """`md`: C only if unchanged."""
    opaque = b"%x" % (next(_opaque) & 0xFFFFFFFF)
    return Command(b"md %b %b O%b\r\n" % (key, flags, opaque), opaque)


def add(key: bytes, flags: bytes) -> Command:
    """`ma`: D how much, N and J make it with a first value, C only if unchanged, v for the outcome."""
    opaque = b"%x" % (next(_opaque) & 0xFFFFFFFF)
    return Command(b"ma %b %b O%b\r\n" % (key, flags, opaque), opaque)


VERSION = Command(b"version\r\n", None, last=b"VERSION ")
STATS = Command(b"stats\r\n", None, last=b"END")


class Replies:
    """The replies to commands that were sent one behind the other."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self._buffer = bytearray()
        self._at = 0  # where in the buffer the next reply begins
        self._lines: list[bytes] = []  # of a reply of several lines
        self.replies: list[Reply] = []

    def feed(self, data: bytes) -> bool:
        """Take what came; whether all replies are there now. ProtocolError: it cannot be what was asked for."""
        self._buffer += data
        while len(self.replies) < len(self._commands):
            end = self._buffer.find(b"\r\n", self._at)
            if end < 0:
                if len(self._buffer) - self._at > _LINE:
                    raise ProtocolError("a line without end")
                break
            line = bytes(self._buffer[self._at : end])
            if not self._take(line, end + 2):
                break
        if self._at > 65_536:
            del self._buffer[: self._at]
            self._at = 0
        if len(self.replies) < len(self._commands):
            return False
        if self._at != len(self._buffer):
            raise ProtocolError("more came than was asked for")
        return True

    def _take(self, line: bytes, start: int) -> bool:
        """One line, behind which `start` is; False: the data that belongs to it has not come yet."""
        command = self._commands[len(self.replies)]
        code, *flags = line.split(b" ")
        if code == b"SERVER_ERROR":
            self.replies.append(Reply(code, _NONE, line[13:]))
        elif command.opaque is None:
            self._plain(command, line)
        elif code == b"VA":
            size = _size(flags)
            if len(self._buffer) < start + size + 2:
                return False
            numbers = _numbers(command, flags[1:], line)
            data = bytes(self._buffer[start : start + size])
            start += size + 2
            if self._buffer[start - 2 : start] != b"\r\n":
                raise ProtocolError("a value of another length than was announced")
            self.replies.append(Reply(code, numbers, data))
        elif code in _CODES:
            self.replies.append(Reply(code, _numbers(command, flags, line), b""))
        else:
            raise _unexpected(line)
        self._at = start
        return True

    def _plain(self, command: Command, line: bytes) -> None:
        if line.startswith(command.last):
            self.replies.append(Reply(b"", _NONE, b"\n".join([*self._lines, line])))
            self._lines = []
        elif line.startswith(b"STAT ") and len(self._lines) < 10_000:
            self._lines.append(line)
        else:
            raise _unexpected(line)


def _size(flags: list[bytes]) -> int:
    if not flags or not flags[0].isdigit():
        raise ProtocolError("a value of unknown length")
    size = int(flags[0])
    if size > _LARGEST:
        raise ProtocolError(f"a value of {size} bytes")
    return size


def _numbers(command: Command, flags: Sequence[bytes], line: bytes) -> dict[bytes, int]:
    """What was wanted of it; ProtocolError: it is not the reply to this command."""
    wanted = command.wants if line[:2] in _SUCCESS else b""
    numbers = {}
    known = False
    for flag in flags:
        letter = flag[:1]
        if letter == b"O":
            known = flag[1:] == command.opaque
            if not known:
                raise ProtocolError("a reply to another request")
        elif letter and letter in wanted:
            try:
                numbers[letter] = int(flag[1:])
            except ValueError:
                raise ProtocolError(f"a reply without sense: {line[:80]!r}") from None
    # older servers answer a miss with nothing but EN; anything else has to say what it belongs to
    if (not known and line != b"EN") or len(numbers) != len(wanted):
        raise ProtocolError(f"a reply to no request: {line[:80]!r}")
    return numbers


def _unexpected(line: bytes) -> ProtocolError:
    text = f"an answer that makes no sense: {line[:80]!r}"
    if line[:1] in (b"-", b"+", b"$", b":", b"*"):
        return ProtocolError(
            f"expected memcached, but this answers as Redis does: {line[:80]!r}", "old"
        )
    if b"unauthenticated" in line or b"authentication" in line:
        return ProtocolError(f"the server wants authentication: {line[:80]!r}", "auth")
    if b"Too many open connections" in line:
        return ProtocolError("too many open connections", "clients")
    return ProtocolError(text)
