"""Application events: what `invalidate_on` says of an event is dropped in every process when it is published."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache._keys import decode, encode
from fastcache.loading.options import check_callback
from fastcache.stores.protocol import StoreError
from fastcache.tiered.drivers import carry
from fastcache.tiered.loads import ask
from fastcache.tiered.values import tags_given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastcache.loading.loader import Calls
    from fastcache.tiered.core import Core

log = logging.getLogger("fastcache")


class Tag(NamedTuple):
    """In what keys_of returns: not a key, but a tag."""

    name: Any


class Events:
    """The handlers of one tiered cache. Safe from any thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._handlers: dict[str, list[Callable[..., Iterable[Any]]]] = {}
        if core.link is not None:
            received = weakref.WeakMethod(self.received)
            # weakly, as the thread holds the link while it waits for messages
            core.link.handler = lambda body, own: (m := received()) and m(body, own)

    def on(self, event: str, keys_of: Callable[..., Iterable[Any]]) -> None:
        if not isinstance(event, str):
            raise TypeError(f"event must be a str, got {event!r}")
        check_callback("keys_of", keys_of)
        self._handlers.setdefault(event, []).append(keys_of)
        if self._core.link is not None:
            self._core.link.start()

    def publish(self, event: str, payload: dict[str, Any]) -> Calls:
        core = self._core
        if not isinstance(event, str):
            raise TypeError(f"event must be a str, got {event!r}")
        items = tuple(sorted(payload.items()))
        encode((event, items))  # what cannot be sent is refused before anything is done
        handled = yield from self._handle(event, payload)
        core.counts.add("events")
        teller = core.teller
        if teller is not None:
            if core.link is not None:
                core.link.start()
            yield from ask(teller.send, teller.space.publish(encode((event, items, handled))))

    def received(self, body: bytes, own: bool) -> None:
        """From another process, in the thread that listens."""
        event, items, handled = decode(body)
        self._core.counts.add("events")
        steps = self._handle(event, dict(items), local=bool(handled))
        try:
            carry(steps, self._core.blocking)
        except StoreError as error:
            self._core.failed(error)

    def _handle(self, event: str, payload: dict[str, Any], local: bool = False) -> Calls:
        """Whether this process knows what the event concerns. local: the publisher knew it too, so that
        only L1 is left to do."""
        core = self._core
        handlers = self._handlers.get(event, ())
        for keys_of in handlers:
            try:
                named = list(keys_of(**payload))
                keys = [each for each in named if not isinstance(each, Tag)]
                tags = tags_given([each.name for each in named if isinstance(each, Tag)])
                for key in keys:
                    core.place(key)  # what can be no key is its fault as well
            except Exception:
                core.counts.add("event_failures")
                log.exception("keys_of for event %r failed, so all of L1 is dropped", event)
                core.l1.clear()
                continue
            if local:
                for key in keys:
                    core.l1.delete(key)
                if tags:
                    core.l1.invalidate_tag(*tags)
                continue
            if keys:
                yield from core.writes.invalidate(keys)
            if tags:
                yield from core.writes.invalidate_tags(tags)
        return bool(handlers)
