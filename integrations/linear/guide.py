"""What to do in Linear, and here, until the app works: words for a terminal, pure."""

from collections.abc import Sequence
from datetime import datetime

from integrations.linear.config import EVENTS, SCOPES, LinearConfig
from integrations.linear.oauth import TICKET_LASTS, install_ticket
from integrations.linear.pages import redirect_uri


def create(config: LinearConfig | None, *, public_url: str) -> Sequence[str]:
    """The app, as it must be made in Linear."""
    hooks = config is None or config.webhook_secret is not None
    credentials = config is not None and config.mode == "client_credentials"
    return [
        "1. In Linear, Settings, API, OAuth applications, make a new one:",
        "   name, icon         how people will see and mention it: errand",
        f"   callback URL       {redirect_uri(public_url)}",
        "   public             off: only your own workspace may install it",
        f"   client credentials {'on' if credentials else 'off, or on for one workspace without the link below'}",
        *(
            [
                f"   webhooks           on, to {public_url}/linear/webhook, with: {', '.join(EVENTS)}",
                "                      (Linear must reach that address; where it can't, leave them off)",
            ]
            if hooks
            else ["   webhooks           off: Errand asks Linear for what is new"]
        ),
        f"   scopes             {','.join(SCOPES)}: asked for by the link, nothing to set",
    ]


def settings(config: LinearConfig | None) -> Sequence[str]:
    """What goes into `.env`."""
    if config is not None:
        return ["2. The settings are there."]
    return [
        "2. Put into .env what the application shows, then run this again:",
        "   ERRAND_LINEAR__CLIENT_ID=",
        "   ERRAND_LINEAR__CLIENT_SECRET=",
        "   ERRAND_LINEAR__WEBHOOK_SECRET=   (leave it out where webhooks are off)",
        "   ERRAND_LINEAR__MODE=             (client_credentials, if you turned them on)",
    ]


def install(config: LinearConfig, *, public_url: str, now: datetime) -> Sequence[str]:
    """How the app comes into a workspace."""
    if config.mode == "client_credentials":
        return ["3. It is in the workspace that owns it: nothing to install."]
    ticket = install_ticket(config, now=now)
    minutes = int(TICKET_LASTS.total_seconds() // 60)
    return [
        f"3. While errand serve runs, an admin opens this link (good for {minutes} minutes; who has it can install):",
        f"   {public_url}/linear/oauth/authorize?ticket={ticket}",
    ]
