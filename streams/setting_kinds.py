"""How the text of a setting is read: one `Kind` per sort of value, each with words for what it expects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Kind(Generic[Value]):
    """expects: in words, for the table and for errors. read: raises ValueError with such words; gets text with at least
    one character, or the default's text. write: the inverse, for a child's environment."""

    expects: str
    read: Callable[[str], Value]
    write: Callable[[Any], str] = str
    show: Callable[[str], str] = repr
    """What an error may quote of a text that was refused."""
    secret: bool = False
    """Left out of every `repr`."""


def integer(least: int, most: int) -> Kind[int]:
    """A whole number from `least` to `most`."""
    expects = f"a whole number from {least} to {most}"

    def read(raw: str) -> int:
        try:
            number = int(raw)
        except ValueError:
            raise ValueError(expects) from None
        if not least <= number <= most:
            raise ValueError(expects)
        return number

    return Kind(expects, read)


def choice(*options: str) -> Kind[str]:
    """One of `options`, in any case."""
    expects = " or ".join(options)

    def read(raw: str) -> str:
        if raw.lower() not in options:
            raise ValueError(expects)
        return raw.lower()

    return Kind(expects, read)


def _flag(raw: str) -> bool:
    word = raw.lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError(flag.expects)


def _host_list(raw: str) -> str:
    for address in raw.split(","):
        host, colon, port = address.strip().rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(host_list.expects)
    return ",".join(address.strip() for address in raw.split(","))


def _web_url(raw: str) -> str:
    parts = urlsplit(raw)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(web_url.expects)
    return raw.rstrip("/")


def _database_url(raw: str) -> str:
    if urlsplit(raw).scheme not in {"postgresql", "postgres"}:
        raise ValueError(database_url.expects)
    return raw


def _origin_list(raw: str) -> tuple[str, ...]:
    origins = tuple(item.strip().rstrip("/") for item in raw.split(",") if item.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query:
            raise ValueError(origin_list.expects)
    return origins


def _file_path(raw: str) -> Path:
    path = Path(raw)
    if not path.is_file():
        raise ValueError(file_path.expects)
    return path


def _signing_secret(raw: str) -> str:
    if len(raw) < SHORTEST_SIGNING_SECRET:
        raise ValueError(signing_secret.expects)
    return raw


def _show_secret(raw: str) -> str:
    return f"a secret of {len(raw)} characters"


def _show_database_url(raw: str) -> str:
    """The URL with its password masked; nothing of it where it cannot be taken apart."""
    try:
        parts = urlsplit(raw)
        password = parts.password
    except ValueError:
        return _show_secret(raw)
    if password is None:
        # Without a host part nobody can say where a password might stand.
        return repr(raw) if parts.netloc and "=" not in parts.query else _show_secret(raw)
    return repr(raw.replace(f":{password}@", ":***@"))


text: Final = Kind("text", str)
secret_text: Final = Kind("text, secret", str, show=_show_secret, secret=True)
SHORTEST_SIGNING_SECRET: Final = 32  # 128 bits as hexadecimal digits
signing_secret: Final = Kind(
    f"at least {SHORTEST_SIGNING_SECRET} characters, secret", _signing_secret, show=_show_secret, secret=True
)
flag: Final = Kind("true or false", _flag, lambda value: "true" if value else "false")
host_list: Final = Kind("host:port[,host:port…]", _host_list)
web_url: Final = Kind("a URL, http:// or https://", _web_url)
# A database URL may carry a password, so it is treated as a secret throughout.
database_url: Final = Kind("a URL, postgresql://", _database_url, show=_show_database_url, secret=True)
origin_list: Final = Kind("origins such as https://example.org, with commas", _origin_list, ",".join)
folder: Final = Kind("a folder", Path)
file_path: Final = Kind("the path of a file that exists", _file_path)
