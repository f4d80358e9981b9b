"""What Flower's servers of a federation let in: hospitals with their own words, and nobody else.

Flower 1.41 leaves four doors open. Whoever reaches a SuperLink's port can register keys and start runs, hence
run code as the user who started it. It reads a request of any size before it knows who sends it. A signature
covers the time alone, and is taken again for five minutes. A registered SuperNode may send a reply in another
one's name. `Guard` and `FleetRules` close them; `fedrobust.deploy.guarded` puts them in place.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["FleetRules", "Guard", "peers_are_known"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Where SuperNodes talk to the SuperLink: the only paths open to others than its own user.
FLEET = "/v1/fleet/"
#: A SuperNode sends arrays in pieces of 5 MB; three times as much leaves room for the rest of a message.
LARGEST_REQUEST = 16 << 20
#: A reply is about as long as the model that was sent; it may be twice as long, and so many bytes more.
REPLY_ALLOWANCE = 1 << 20
#: Flower takes a signature for 310 seconds, differences of clocks included; it is remembered longer.
SIGNATURE_S = 320.0

#: The system's tables of TCP connections, which name the user of each. Linux has them.
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
#: Only an open connection names its user: one that is being closed may say root.
_ESTABLISHED = "01"


def peers_are_known() -> bool:
    """Tell whether this system says which user is at the other end of a connection to itself."""
    return _TABLES[0].exists()


def _user_of(client: Sequence[Any], server: Sequence[Any]) -> int | None:
    """Return the user at the other end of a connection of this machine; None if it comes from another."""
    # A server for both kinds of addresses sees IPv4 ones as IPv6; the client's socket is of either kind.
    both = [(_as_in_table(client, plain), _as_in_table(server, plain)) for plain in (True, False)]
    for table in _TABLES:
        if table.exists():
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if (fields[1], fields[2]) in both and fields[3] == _ESTABLISHED:
                    return int(fields[7])
    return None


def _as_in_table(end: Sequence[Any], plain: bool) -> str:
    """Return an address as the tables write it: words in the machine's order of bytes, and the port.

    With `plain` an IPv4 address within an IPv6 one is taken out of it.
    """
    address = ipaddress.ip_address(end[0])
    packed = ((plain and getattr(address, "ipv4_mapped", None)) or address).packed
    words = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    ordered = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return f"{ordered.hex().upper()}:{int(end[1]):04X}"


class Guard:
    """Refuses requests before their content is read.

    Everything but the paths of SuperNodes is for processes of this user on this machine. What a SuperNode
    sends has a stated length, at most `LARGEST_REQUEST`.

    Parameters
    ----------
    app : callable
        The ASGI application behind it.
    fleet : bool
        Whether SuperNodes talk to this server; if not, every path is for this user alone.
    """

    def __init__(self, app: App, fleet: bool) -> None:
        """Put the guard before an application."""
        self._app = app
        self._fleet = fleet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a refusal."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, reason = refusal
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"detail": reason}).encode()})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and the reason with which a request is refused; None if it may pass."""
        if not (self._fleet and scope["path"].startswith(FLEET)):
            if _is_own(scope):
                return None
            return 403, "only the user who started this server may do this, from the same machine"
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if len(lengths) != 1 or not lengths[0].isdigit():
            return 411, "the request does not say how long it is"
        if int(lengths[0]) > LARGEST_REQUEST:
            return 413, f"the request is longer than {LARGEST_REQUEST} bytes"
        return None


def _is_own(scope: Scope) -> bool:
    """Tell whether a request comes from a process of this user on this machine."""
    client, server = scope.get("client"), scope.get("server")
    if not client or not server:
        return False
    if not peers_are_known():
        return ipaddress.ip_address(client[0]).is_loopback
    return _user_of(client, server) == os.getuid()


class FleetRules:
    """What a registered SuperNode may do beyond Flower's own checks; each method raises `PermissionError`.

    A signature counts once. A reply names its own sender. It is at most twice as long as the model that the
    SuperNode was sent, and `REPLY_ALLOWANCE`: so the server holds a bounded amount for each hospital.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with no SuperNode known."""
        self._clock = clock
        self._lock = threading.Lock()
        self._signatures: dict[str, float] = {}
        self._sent: defaultdict[int, dict[str, int]] = defaultdict(dict)
        self._left: dict[int, int] = {}

    def signed(self, signature: str) -> None:
        """Take a valid signature, once."""
        now = self._clock()
        with self._lock:
            while self._signatures and next(iter(self._signatures.values())) < now - SIGNATURE_S:
                del self._signatures[next(iter(self._signatures))]
            if signature in self._signatures:
                raise PermissionError("this signature was used before")
            self._signatures[signature] = now

    def pulled(self, node: int, identifier: str, length: int) -> None:
        """Note an object that a SuperNode was sent; the same one again counts once."""
        with self._lock:
            self._sent[node][identifier] = length

    def replying(self, node: int, senders: Sequence[int]) -> None:
        """Take the beginning of a reply: who sends it, for the parts that follow."""
        for sender in senders:
            if sender != node:
                raise PermissionError(f"SuperNode {node} sends a reply in the name of SuperNode {sender}")
        with self._lock:
            self._left[node] = 2 * sum(self._sent.pop(node, {}).values()) + REPLY_ALLOWANCE

    def pushing(self, node: int, length: int) -> None:
        """Take a part of a reply."""
        with self._lock:
            left = self._left.get(node, 0) - length
            if left < 0:
                raise PermissionError(f"the reply of SuperNode {node} is longer than what it was sent allows")
            self._left[node] = left
