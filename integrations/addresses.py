"""Addresses that credentials are sent to."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def safe_for_a_token(url: str) -> str:
    """The address without a slash at its end. `ValueError` where a token must not go there."""
    parts = urlsplit(url)
    if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("an address such as https://HOST, without a credential or a query")
    if parts.scheme != "https" and not (parts.scheme == "http" and _loopback(parts.hostname)):
        raise ValueError("https, because the token goes there")
    return url.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
