"""Whether the server in this container may get work: exit code 0 or 1, and one line that says why not.

The images have no curl. It asks the port that TAIJITU_PORT names; health paths need no key.
"""

from __future__ import annotations

import os
import urllib.request

TIMEOUT_S = 3.0


def main() -> int:
    """Run the check; exit code 0: /health/ready answers 200."""
    url = f"http://127.0.0.1:{os.environ.get('TAIJITU_PORT', '8000')}/health/ready"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # Docker may set http_proxy in containers
    try:
        direct.open(url, timeout=TIMEOUT_S).close()
    except OSError as error:
        print(f"{url}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
