"""server/serve.py, whose supervisor trusts a worker after a fifth of a second instead of five."""

from taijitu_server import workers
from taijitu_server.cli import main

workers.QUICK_DEATH_S = 0.2
workers.RETRY_S = 0.1
raise SystemExit(main())
