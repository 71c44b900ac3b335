"""Whether the server in this container may get work: exit code 0 or 1, and one line that says why not.

The images have no curl. It asks the address of TAIJITU_HOST and TAIJITU_PORT; health paths need no key.
"""

from __future__ import annotations

import os
import urllib.request

TIMEOUT_S = 3.0
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # of a server that listens on all addresses


def main() -> int:
    """Run the check; exit code 0: /health/ready answers 200."""
    listening = os.environ.get("TAIJITU_HOST", "0.0.0.0")
    host = LOOPBACK.get(listening, listening)
    place = f"[{host}]" if ":" in host else host
    url = f"http://{place}:{os.environ.get('TAIJITU_PORT', '8000')}/health/ready"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # Docker may set http_proxy in containers
    try:
        direct.open(url, timeout=TIMEOUT_S).close()
    except OSError as error:
        print(f"{url}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
