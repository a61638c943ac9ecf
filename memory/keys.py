"""API keys: how one is made, and what is stored of it.

`hs_` + 12 hex digits that name the key + `_` + 43 characters of 32 random bytes. Only the SHA-256 of the whole text is
stored: with 256 bits of randomness there is nothing to guess, so neither salt nor a slow hash is needed, and a key is
found by its hash in one index lookup. Pure: randomness is an argument.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Final

PREFIX: Final = "hs_"
CHAT_SCOPE: Final = "chat"  # its holder may chat; every key that a person gets has it
SERVICE_SCOPE: Final = "service"  # its holder may publish turns and facts for every user of its tenant
EVERY_TENANT_SCOPE: Final = "every_tenant"  # a service's: it may answer calls of the turns of every tenant
QUOTA_SCOPE: Final = "quota="  # a service's, with a number behind it: turns and facts a minute


def new_key(random_bytes: Callable[[int], bytes]) -> tuple[str, str]:
    """(key id, plain key). random_bytes: `secrets.token_bytes` outside tests."""
    name = random_bytes(6).hex()
    secret = base64.urlsafe_b64encode(random_bytes(32)).rstrip(b"=").decode()
    return f"key_{name}", f"{PREFIX}{name}_{secret}"


def hash_key(key: str) -> bytes:
    """The 32 bytes under which a key is stored."""
    return hashlib.sha256(key.encode()).digest()
