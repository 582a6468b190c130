"""Hide credentials in what is logged.

DVC and its clients print the messages of servers unchanged. None was seen to repeat a
password, but a server may, so known credentials are replaced.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

# Settings of DVC's remotes, and environment variables, that hold credentials.
SECRET = re.compile(
    r"key|password|passphrase|secret|token|connection_string", re.IGNORECASE
)
# A shorter value would also occur in unrelated words.
SHORTEST = 6
MASK = "***"


def secrets(*groups: Mapping[str, Any]) -> list[str]:
    """Return the credentials among groups of settings, the longest first."""
    values = {
        value
        for settings in groups
        for name, value in settings.items()
        if SECRET.search(name) and isinstance(value, str) and len(value) >= SHORTEST
    }
    # One may be a part of another.
    return sorted(values, key=lambda value: (-len(value), value))


def masked(text: str, remotes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return `text` without credentials.

    Args:
        text: what DVC, a client or a server printed.
        remotes: the section `remote` of DVC's configuration. Its credentials are
            hidden, and those of the environment and of URLs.
    """
    for secret in secrets(os.environ, *remotes.values()):
        text = text.replace(secret, MASK)
    return re.sub(r"(?<=://)[^\s/]*@", f"{MASK}@", text)
