"""The gateway with a DNS server and a network of the test's: names are asked of it, and every dial ends at one canary.

Arguments: port of the DNS canary, port of the HTTP canary, then the gateway's own.
"""

import ipaddress
import socket
import struct
import sys
from collections.abc import Sequence

from runner.inside import gateway

_SECONDS = 5


def main() -> None:
    dns, http = int(sys.argv[1]), int(sys.argv[2])

    def resolve(host: str, _port: int) -> Sequence[str]:
        # Addresses of version 6 come as a name's text would: the canary's DNS speaks version 4 only.
        if host.startswith("v6-"):
            return [str(ipaddress.IPv6Address(bytes.fromhex(host[3:35])))]
        labels = b"".join(bytes([len(part)]) + part.encode() for part in host.split("."))
        query = (
            struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_SECONDS)
            sock.sendto(query, ("127.0.0.1", dns))
            reply = sock.recv(4096)
        count = struct.unpack(">H", reply[6:8])[0]
        if not count:
            raise socket.gaierror(f"{host} is not known")
        records = reply[len(query) :]
        return [socket.inet_ntoa(records[16 * n + 12 : 16 * n + 16]) for n in range(count)]

    def dial(address: str, port: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", http), timeout=_SECONDS)
        sock.sendall(f"dialled {address} {port}\n".encode())
        return sock

    gateway.main(sys.argv[3:], resolve=resolve, dial=dial)
