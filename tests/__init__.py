"""Tests, all of real parts.

Ray reads its environment when it is imported, so it is set up here, before any test module is.
"""

import os
import secrets

# Authentication as on a real cluster, with a token of this run's own, and of its child processes.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
# As the program sets it: no second environment for the workers of a driver under `uv run`.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
