"""What is attached to messages, fetched with the bot's token and from nowhere but Slack."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import aiohttp
import structlog

from integrations.channel import Picture, PictureKind
from integrations.pictures import Pictures
from integrations.slack.client import SlackClient
from integrations.slack.messages import File
from integrations.wording import clean

log = structlog.get_logger()

HOSTS = ("slack.com", "slack-files.com")
MAX_BYTES = 200_000
MAX_FILES = 5
MAX_PICTURES = 4
MAX_PICTURES_BYTES = 2_500_000
"""Together: they travel to the agent in one message."""
TEXTS = ("text/", "application/json", "application/xml", "application/x-yaml", "application/yaml",
         "application/toml", "application/x-sh", "application/javascript", "application/x-patch")  # fmt: skip


async def texts_of(client: SlackClient, files: Sequence[File]) -> dict[str, str]:
    """The texts among them by id: those that are small enough, and could be had."""
    found: dict[str, str] = {}
    for file in files:
        if len(found) == MAX_FILES:
            break
        if file.kind.startswith(TEXTS) and file.size <= MAX_BYTES:
            text = await _text(client, file)
            if text is not None:
                found[file.id] = text
    return found


def is_ours(address: str, *, api_url: str) -> bool:
    """May the token go there? Slack's own hosts over TLS; in tests, where the Web API is."""
    url, api = urlsplit(address), urlsplit(api_url)
    if _is_slack(url.hostname or ""):
        return url.scheme == "https" and url.port in {None, 443} and not url.username
    same = (url.scheme, url.netloc) == (api.scheme, api.netloc)
    return same and not _is_slack(api.hostname or "")


def _is_slack(host: str) -> bool:
    return any(host == known or host.endswith(f".{known}") for known in HOSTS)


async def _text(client: SlackClient, file: File) -> str | None:
    body = await _content(client, file, limit=MAX_BYTES)
    try:
        return None if body is None else clean(body.decode())
    except UnicodeDecodeError:
        return None


async def _content(client: SlackClient, file: File, *, limit: int) -> bytes | None:
    """None if it could not be had, or is longer."""
    if not is_ours(file.address, api_url=client.config.api_url):
        return None
    headers = {"Authorization": client.authorization}
    try:
        async with client.session.get(
            file.address, headers=headers, allow_redirects=False
        ) as answer:
            if answer.status != 200 or answer.content_type == "text/html":  # noqa: PLR2004  a login page is no file
                log.warning("slack_file_refused", file=file.id, status=answer.status)
                return None
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > limit:
                    return None
    except (aiohttp.ClientError, TimeoutError) as error:
        log.warning("slack_file_unreachable", file=file.id, error=type(error).__name__)
        return None
    return bytes(body)


async def pictures_of(
    client: SlackClient, files: Sequence[File], pictures: Pictures
) -> dict[str, Picture]:
    """The pictures among them by id, kept: as many as may go along, the first first."""
    found: dict[str, Picture] = {}
    room = MAX_PICTURES_BYTES
    for file in files:
        if len(found) == MAX_PICTURES or not file.kind.startswith("image/") or file.size > room:
            continue
        content = await _content(client, file, limit=room)
        kind = picture_kind(content or b"")
        if content is None or kind is None:
            continue
        try:
            found[file.id] = Picture(name=await pictures.keep_picture(content), kind=kind)
        except OSError as error:
            log.warning("slack_picture_not_kept", file=file.id, error=str(error))
            continue
        room -= len(content)
    return found


def picture_kind(content: bytes) -> PictureKind | None:
    """By its first bytes, since models refuse what is called otherwise than it is; None for no picture we know."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None
