"""Tests, all of real parts.

Ray reads its authentication from the environment when it is imported, so it is set up here, before
any test module is: as on a real cluster, with a token of this run's own.
"""

import os
import secrets

os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
