"""Which URLs and which network addresses a crawler may touch.

The web decides which names we look up, so a name that leads into our own network must lead nowhere. Addresses are
judged after name resolution and once for every connection; a host that is itself an address in any spelling (decimal,
hex, octal, mapped into IPv6) ends in the same check.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from yarl import URL

from pipeline.curate.stage import Leave
from pipeline.log import clean
from pipeline.redact import redacted_url

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 6052: an IPv6-only network reaches the IPv4 address in the last 32 bits through this prefix.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Every spelling of an IPv4 address that the operating system knows: decimal, octal, hex, fewer than four parts.
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
# Global by the registries, and answered by the cloud itself: Azure's wire server and, in old tables, Oracle's metadata.
_OF_CLOUDS = tuple(ipaddress.ip_network(name) for name in ("168.63.129.16/32", "192.0.0.0/24", "100.100.100.200/32"))
# What a URL may hold (RFC 3986), and a `%` that stands for itself, which browsers send as it is.
_LEGAL = "%/?:@!$&'()*+,;=-._~[]|^"
_STRIPPED = re.compile(r"[\t\r\n]")  # within a URL, as browsers do
_DEFAULT_PORTS = {"http": 80, "https": 443}


def networks(names: Iterable[str]) -> tuple[Network, ...]:
    """CIDR networks from their names; ValueError names a bad one."""
    return tuple(ipaddress.ip_network(name) for name in names)


def is_public(address: str, allowed: Iterable[Network] = ()) -> bool:
    """True if `address` is one that anybody on the internet may talk to, or lies in an `allowed` network.

    IPv4 addresses wrapped in IPv6 (mapped, 6to4, Teredo, NAT64) are judged as the IPv4 address that they reach.
    """
    ip: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    if any(ip in network for network in allowed if network.version == ip.version):
        return True
    if any(ip in network for network in _OF_CLOUDS if network.version == ip.version):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or getattr(ip, "is_site_local", False))


def check_address(address: str, allowed: Iterable[Network] = ()) -> None:
    """Leave as failed `private_address` unless `is_public`."""
    if not is_public(address, allowed):
        raise Leave("failed", "private_address", detail=f"{address} is not a public address")


def canonical(url: str, base: str | None = None) -> str:
    """The one spelling of an absolute http(s) URL, by which keys are made and duplicates are found: no fragment, no
    default port, host in lower case, path encoded, and an IPv4 host in dotted decimals. A server may answer another
    spelling only: it is asked for `as_written`.

    `base` resolves relative references. Leaves as failed `bad_url` for anything else, and for user info: what needs
    a password was not published to us.
    """
    try:
        parsed = URL(url.strip())
        if base is not None:
            parsed = URL(base).join(parsed)
        host = parsed.host or ""
        if parsed.scheme not in _DEFAULT_PORTS or not host:
            raise _RefusedError("not an absolute http or https URL")
        if parsed.user is not None or parsed.password is not None:
            raise _RefusedError("user info in the URL")
        if parsed.explicit_port == _DEFAULT_PORTS[parsed.scheme]:
            parsed = parsed.with_port(None)
        if _NUMERIC.fullmatch(host):
            parsed = parsed.with_host(socket.inet_ntoa(socket.inet_aton(host)))
        host.encode("idna")  # what name resolution would do later, and refuse
        parts = urlsplit(str(parsed.with_fragment(None)))
        return urlunsplit(parts._replace(path=parts.path or "/"))
    except (ValueError, TypeError, OSError) as error:
        # Only our own words: what parsers say quotes the URL, passwords included.
        problem = str(error) if isinstance(error, _RefusedError) else "its host or port is none"
        raise Leave("failed", "bad_url", detail=f"{shown(url)}: {problem}") from error


def as_written(url: str, base: str | None = None) -> str:
    """The absolute URL that is asked for: path and query are those that a publisher wrote, to the letter, and only what
    no request line may hold is encoded. Leaves as `canonical` does.

    Signatures are computed over the very bytes of a URL, and routers match them; `%2F` and `/`, `%7E` and `~`, a
    trailing `?` and none are not the same to them (aio-libs/aiohttp#7222).
    """
    authority = urlsplit(canonical(url, base)).netloc
    text = _STRIPPED.sub("", url.strip()).partition("#")[0]
    scheme, colon, rest = text.partition("://")
    if not (colon and scheme.lower() in _DEFAULT_PORTS):
        joined = urljoin(base or "", text)
        scheme, _, rest = joined.partition("://")
        rest += "?" if text.endswith("?") and not joined.endswith("?") else ""  # urljoin drops an empty query
    start = min((place for mark in "/?" if (place := rest.find(mark)) >= 0), default=len(rest))
    path = rest[start:]
    path = path if path.startswith("/") else f"/{path}"
    return f"{scheme.lower()}://{authority}{quote(path, safe=_LEGAL, errors='surrogateescape')}"


class _RefusedError(ValueError):
    """A URL that can be parsed, and is not wanted."""


def shown(url: str) -> str:
    """A URL fit for a log or a ledger: no user info, no query (signed URLs are secrets), no control characters."""
    return clean(redacted_url(url).partition("?")[0])
