"""What a server refuses, and what that is called in a StoreError."""

from __future__ import annotations

from fastcache.stores.protocol import StoreError

#: Longest part of a server's own words that goes into an error message.
LONGEST = 200

#: First word of an error reply -> kind of StoreError.
_KINDS = {
    "ASK": "moved",
    "CLUSTERDOWN": "cluster",
    "CROSSSLOT": "cluster",
    "LOADING": "loading",
    "MASTERDOWN": "loading",
    "MISCONF": "readonly",
    "MOVED": "moved",
    "NOAUTH": "auth",
    "NOPERM": "auth",
    "NOREPLICAS": "readonly",
    "OOM": "full",
    "READONLY": "readonly",
    "TRYAGAIN": "moved",
    "WRONGPASS": "auth",
}

#: What an error reply without a telling first word contains -> kind.
_TEXTS = (
    ("max number of clients", "clients"),
    ("unknown command", "old"),
    ("unknown subcommand", "old"),
    ("invalid password", "auth"),
    ("without any password", "auth"),
    ("no password is set", "auth"),
    ("non local key", "moved"),  # a script met a slot that is on its way to another node
)


class Refusal(Exception):  # noqa: N818 - it is an answer; `error` makes an error of it
    """An error reply. It stands in the list of answers for the one that was not given."""

    @property
    def text(self) -> str:
        return str(self.args[0]) if self.args else ""

    @property
    def code(self) -> str:
        """Its first word, in capitals: NOSCRIPT, MOVED, …"""
        return self.text.partition(" ")[0]

    def kind(self) -> str:
        known = _KINDS.get(self.code)
        if known is not None:
            return known
        text = self.text.lower()
        return next((kind for part, kind in _TEXTS if part in text), "other")

    def error(self, where: str) -> StoreError:
        """The StoreError that says so."""
        return StoreError(where, self.kind(), f"the server answers: {self.text[:LONGEST]}")


class WireError(StoreError):
    """The connection failed. sent: whether the server may have carried out what it was asked."""

    def __init__(self, where: str, kind: str, text: str, sent: bool = True) -> None:
        super().__init__(where, kind, text)
        self.sent = sent
