"""What stands in the sandbox for a program that a broker runs elsewhere: it passes its arguments on."""

import http.client
import json
import sys
from collections.abc import Sequence

HOST = "broker.internal"
_SECONDS = 150.0
_OK = 200


def main() -> None:
    tool, *argv = sys.argv[1:]
    sys.exit(ask(tool, argv))


def ask(tool: str, argv: Sequence[str], *, host: str = HOST, port: int = 80) -> int:
    """Write what the broker's run wrote, and give its status."""
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("POST", "/run", body=json.dumps({"tool": tool, "argv": list(argv)}))
        answer = connection.getresponse()
        status, said = answer.status, answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as exc:
        sys.stderr.write(f"{tool}: the broker does not answer ({exc})\n")
        return 1
    finally:
        connection.close()
    if status != _OK:
        sys.stderr.write(f"{tool}: {said}\n")
        return 1
    found = json.loads(said)
    sys.stdout.write(found["stdout"])
    sys.stderr.write(found["stderr"])
    return int(found["status"])
