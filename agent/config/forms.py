"""What one value may look like: names, addresses, connection strings, paths.

Theory of operation. Each function takes the text of one value and returns it in its
normal form, or raises ValueError with a sentence that ends in what to do. None of
them repeats the value: it may hold a password, and who prints it knows better.
"""

import difflib
import ipaddress
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
RESERVED_NAMES = frozenset({"cluster"})
"""A verdict's subject is a node's name or this word; a node may not be called so."""

RECIPIENT = re.compile(r"age1[a-z0-9]{10,}|ssh-(ed25519|rsa) [A-Za-z0-9+/=]+( .*)?")
"""A public key of age or ssh; whether its checksum fits is for age to say."""

PORT_MAX = 65_535
ROLE_BYTES_MAX = 63
PATTERN_PARTS = 3
"""Schema, table, column."""
POSTGRES_PORT = "5432"

# Connection parameters of libpq 18, from its documentation ("Parameter Key Words").
_DSN_KEY_WORDS = """
application_name channel_binding client_encoding connect_timeout dbname
fallback_application_name gssdelegation gssencmode gsslib host hostaddr keepalives
keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts
max_protocol_version min_protocol_version oauth_client_id oauth_client_secret
oauth_issuer oauth_scope options passfile password port replication require_auth
requirepeer scram_client_key scram_server_key service servicefile
ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode sslcompression
sslcrl sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert
sslsni target_session_attrs tcp_user_timeout user
"""
DSN_KEYS = frozenset(_DSN_KEY_WORDS.split())

_DSN_PAIR = re.compile(
    r"\s*(?P<key>[A-Za-z_]+)\s*=\s*"
    r"(?:'(?P<quoted>(?:[^'\\]|\\.)*)'|(?P<bare>(?:[^\s'\\]|\\.)*))(?=\s|$)",
    re.DOTALL,
)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def name(text: str) -> str:
    """Check a node's, witness's, channel's or cluster's name."""
    if NAME.fullmatch(text) is None:
        raise ValueError(
            "not a name: use up to 63 letters, digits, dots, dashes and underscores"
        )
    return text


def node_name(text: str) -> str:
    """Check a node's name."""
    if text in RESERVED_NAMES:
        raise ValueError("this word is taken by Splitguard; choose another name")
    return name(text)


def role_name(text: str) -> str:
    """Check the name of a database role. PostgreSQL cuts off what is longer."""
    if not text.strip() or "\0" in text or len(text.encode()) > ROLE_BYTES_MAX:
        raise ValueError("not a role: give its name, at most 63 bytes long")
    return text


def column_pattern(text: str) -> str:
    """Check a pattern of schema, table and column, with * and ? for what varies."""
    parts = text.split(".")
    if len(parts) != PATTERN_PARTS or not all(part.strip() for part in parts):
        raise ValueError(
            'not a pattern of columns: give "schema.table.column", such as'
            ' "*.*.password*"; * stands for any text, ? for one sign (a dot, too)'
        )
    return text


def url(text: str) -> str:
    """Check the base address of an agent or a manager; without a slash at its end."""
    form = "give http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not an address ({error}); {form}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError(f"not an address; {form}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"an address with a password would be shown; {form}")
    if parts.query or parts.fragment or re.search(r"\s", text):
        raise ValueError(f"more than an address; {form}")
    return text.rstrip("/")


def webhook_url(text: str) -> str:
    """Check a receiver's address, which may have a path and a query."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        usable = usable and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", text):
        raise ValueError("not an address; give http://… or https://…")
    return text


def recipient(text: str) -> str:
    """Check a public key that archives are encrypted for."""
    if text.startswith("AGE-SECRET-KEY-"):
        raise ValueError(
            "this is a private key, which must not be on this machine; give the public"
            " key that age-keygen printed with it, age1…"
        )
    if RECIPIENT.fullmatch(text) is None:
        raise ValueError("not a public key; give age1… or ssh-ed25519 AAAA…")
    return text


def offsite_url(text: str) -> str:
    """Check where archives go: a folder or a bucket."""
    form = "give file:///FOLDER or s3://BUCKET/PREFIX"
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError(f"not an address; {form}") from error
    folder = parts.scheme == "file" and not parts.netloc and len(parts.path) > 1
    bucket = parts.scheme == "s3" and bool(parts.netloc)
    if not (folder or bucket) or parts.query or parts.fragment:
        raise ValueError(f"not an address; {form}")
    if "@" in parts.netloc:
        raise ValueError(f"credentials would be shown; use credentials_file; {form}")
    return text.rstrip("/")


def host_of(address: str) -> str:
    """Return the host of an address that passed `url`."""
    return urlsplit(address).hostname or ""


def port_number(text: str) -> int:
    """Check a port; 0 stands for any free one."""
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > PORT_MAX:
        raise ValueError("the port must be a number from 0 to 65535")
    return int(text)


def split_listen(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`, with an IPv6 address in brackets."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or host == "*":
        raise ValueError(
            "not HOST:PORT; give 127.0.0.1:8009, or 0.0.0.0:8009 for every address"
        )
    if ":" in host and not text.startswith("["):
        raise ValueError("put an IPv6 address into brackets: [::1]:8009")
    return host, port_number(port)


def listen(text: str) -> str:
    """Check the address that the agent listens on."""
    split_listen(text)
    return text


def host_port(text: str) -> str:
    """Check a server's address as PostgreSQL's statistics show it."""
    host, _, port = text.rpartition(":")
    if not host:
        raise ValueError("not HOST:PORT; give it as in primary_conninfo: 10.0.0.1:5432")
    port_number(port)
    return text


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on that host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def absolute(path: Path) -> Path:
    """Check a path: the agent's working folder must not matter."""
    if not path.is_absolute():
        raise ValueError("not an absolute path; begin it with /")
    return path


def dsn(text: str) -> str:
    """Check a libpq connection string for one server."""
    pairs = parse_dsn(text)
    unknown = sorted(set(pairs) - DSN_KEYS)
    if unknown:
        near = did_you_mean(unknown[0], DSN_KEYS)
        raise ValueError(f'libpq knows no parameter "{unknown[0]}"{near}')
    if "," in pairs.get("host", "") or "," in pairs.get("hostaddr", ""):
        raise ValueError("several hosts; a node is one server: give one host")
    port_number(pairs.get("port", POSTGRES_PORT))
    return text


def remote_dsn(text: str) -> str:
    """Check a connection string by which every agent reaches one node's server."""
    pairs = parse_dsn(dsn(text))
    if not pairs.get("host") and not pairs.get("hostaddr"):
        raise ValueError(
            "no host: each agent would ask the server beside itself; add host=…"
        )
    return text


def dsn_part(text: str) -> str:
    """Check what is added to a connection string whose server is known."""
    pairs = parse_dsn(dsn(text))
    if {"host", "hostaddr", "port", "service"} & set(pairs):
        raise ValueError("the server is the source's node; leave host and port out")
    if "password" in pairs:
        raise ValueError(
            "a password here would show in the list of processes; put it into a"
            " passfile (passfile=…)"
        )
    return text


def command(value: object) -> object:
    """Split a command's text into words, by the shell's quoting; no shell runs it."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"not a command: {str(error).lower()}") from error


def parse_dsn(text: str) -> dict[str, str]:
    """Return the parameters of a connection string, in either form of libpq."""
    if text.startswith(("postgresql://", "postgres://")):
        return _parse_dsn_uri(text)
    pairs: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        match = _DSN_PAIR.match(text, at)
        if match is None:
            raise ValueError(
                "not a connection string; give key=value pairs with spaces between,"
                " such as host=10.0.0.1 dbname=postgres user=splitguard_probe"
            )
        raw = match["quoted"] if match["quoted"] is not None else match["bare"]
        pairs[match["key"]] = re.sub(r"\\(.)", r"\1", raw)
        at = match.end()
    if not pairs:
        raise ValueError("empty; give host=… dbname=… user=…")
    return pairs


def _parse_dsn_uri(text: str) -> dict[str, str]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("the port must be a number from 0 to 65535") from error
    found = {
        "host": unquote(parts.hostname or ""),
        "port": str(port or ""),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": unquote(parts.path.removeprefix("/")),
    }
    pairs = {key: value for key, value in found.items() if value}
    return pairs | dict(parse_qsl(parts.query, keep_blank_values=True))


def server_of(text: str) -> tuple[str, str]:
    """Return host and port of a connection string, or two empty texts."""
    try:
        pairs = parse_dsn(text)
    except ValueError:
        return "", ""
    host = pairs.get("hostaddr") or pairs.get("host", "")
    return host, pairs.get("port", POSTGRES_PORT)


def time_zone(value: str) -> str:
    """Return the name if it is one of a time zone; ValueError otherwise."""
    try:
        ZoneInfo(value)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise ValueError(
            'no time zone of this machine; give one such as "UTC" or "Europe/Berlin"'
        ) from error
    return value
