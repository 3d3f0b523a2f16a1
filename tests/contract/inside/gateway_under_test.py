"""The gateway with names and addresses of its own: nothing is looked up, and everything is dialled on loopback.

The first argument says what is there: {"names": {host: [address]}, "addresses": {address: port of 127.0.0.1}}.
"""

import json
import socket
import sys
from collections.abc import Sequence

from runner.inside import gateway


def main() -> None:
    world = json.loads(sys.argv[1])

    def resolve(host: str, _port: int) -> Sequence[str]:
        if host not in world["names"]:
            raise socket.gaierror(f"{host} is not known")
        found: Sequence[str] = world["names"][host]
        return found

    def dial(address: str, _port: int) -> socket.socket:
        if address not in world["addresses"]:
            raise ConnectionRefusedError(address)
        return socket.create_connection(("127.0.0.1", world["addresses"][address]), timeout=5)

    gateway.main(sys.argv[2:], resolve=resolve, dial=dial)
