"""Forms and pages in Slack: pure."""

from collections.abc import Sequence

from integrations.channel import StepState
from integrations.front import Details, Errand, House, Offer, Question
from integrations.slack import names
from integrations.slack.blocks import (
    Block,
    actions,
    button,
    context,
    divider,
    link_button,
    option,
    person,
    section,
    select,
)
from integrations.slack.interactions import Origin
from integrations.slack.mrkdwn import code, defuse, escape, pages, written, written_line
from integrations.wording import STEP_SIGNS, duration, file_lines, money

REQUEST_LIMIT = 3000
OPTIONS = 100
LINE = 300
SAID = 2500
STEPS = 30
STEP = 120
HOSTS = 30
FILES = 30
ERRANDS = 10
REPOS = 15
RUNNING = "●"
ENDED = "○"


def start_form(offer: Offer, *, origin: Origin, text: str = "", anywhere: bool = False) -> Block:
    """What is to be done, where, and by which agent; `anywhere` asks for the place too."""
    blocks: list[Block] = [
        _input(
            names.REQUEST,
            "What should be done?",
            {
                "type": "plain_text_input",
                "action_id": names.REQUEST,
                "multiline": True,
                "max_length": REQUEST_LIMIT,
                **({"initial_value": text[:REQUEST_LIMIT]} if text.strip() else {}),
                "placeholder": _plain("The login test is flaky since Monday, please fix it."),
            },
        ),
        *_repo_input(offer, "Repository", initial=offer.default),
    ]
    if len(offer.agents) > 1:
        agents = [option(agent, agent) for agent in offer.agents[:OPTIONS]]
        blocks.append(_input(names.AGENT, "Agent", select(names.AGENT, agents), optional=True))
    if anywhere:
        blocks.append(
            _input(
                names.PLACE,
                "Where should I answer?",
                {
                    "type": "conversations_select",
                    "action_id": names.PLACE,
                    "default_to_current_conversation": True,
                    "filter": {"include": ["public", "private"], "exclude_bot_users": True},
                },
                optional=True,
                hint="In direct messages, if you choose nothing.",
            )
        )
    if origin.thread:
        blocks.append(context(["The thread goes along, as background for the agent."]))
    return _modal(names.START_FORM, "New errand", "Start", blocks, origin)


def settings_form(offer: Offer, *, origin: Origin) -> Block:
    place = f"<#{origin.place}>"
    blocks = [
        section(f"What a request in {place} means that names no repository."),
        *_repo_input(offer, "Repository", initial=offer.default, none=True),
        context(["The policy comes first; this counts where it leaves the question open."]),
    ]
    return _modal(names.SETTINGS_FORM, "Defaults", "Save", blocks, origin)


def _repo_input(offer: Offer, label: str, *, initial: str, none: bool = False) -> list[Block]:
    """A list to search in; Slack asks us for it where it is longer than a list may be."""
    nothing = [option("none", names.NONE)] if none else []
    options = [*nothing, *(option(repo, repo) for repo in offer.repos)]
    if len(options) > OPTIONS:
        element: Block = {
            "type": "external_select",
            "action_id": names.REPO,
            "min_query_length": 0,
            "placeholder": _plain("Search"),
        }
        if initial:
            element["initial_option"] = option(initial, initial)
    elif options:
        element = select(names.REPO, options, initial=initial)
    else:
        return [context(["No repository is open to you here; the policy decides that."])]
    return [_input(names.REPO, label, element, optional=not none)]


def suggestions(offer: Offer, query: str) -> list[Block]:
    """The repositories that a search finds."""
    wanted = query.strip().lower()
    found = [repo for repo in offer.repos if wanted in repo.lower()]
    return [option(repo, repo) for repo in found[:OPTIONS]]


def details_view(details: Details) -> Block:
    errand = details.errand
    facts = [
        f"*{written_line(errand.title, LINE)}*",
        " · ".join(part for part in (written_line(errand.repo, LINE), *_figures(errand)) if part),
        " · ".join(
            part
            for part in (
                f"asked by {person(details.asked_by)}" if details.asked_by else "",
                f"branch {code(details.branch, LINE)}" if details.branch else "",
                written_line(details.agent, STEP),
                f"{details.tokens:,} tokens" if details.tokens is not None else "",
                f"{details.runs} runs" if details.runs > 1 else "",
            )
            if part
        ),
    ]
    blocks = [section("\n".join(fact for fact in facts if fact))]
    if reason := written(details.reason.strip(), SAID).strip():
        blocks.append(section(reason))
    blocks += _part("Steps", _step_lines(details))
    blocks += _part("Changes", _change_lines(details))
    blocks += _part("Refused hosts", _hosts(details.denied))
    blocks += _part("May reach", _hosts(details.allowed) or ["nothing but the models"])
    if details.said:
        said = pages(details.said, page=SAID, total=SAID)
        blocks += _part("The agent's last words", said)
    links = [
        link_button(label, url, name)
        for label, url, name in (
            ("Open pull request", errand.pull_url, "pull"),
            ("Open page", details.url, "page"),
        )
        if url.startswith(("https://", "http://"))
    ]
    if links:
        blocks.append(actions(links))
    return {
        "type": "modal",
        "callback_id": names.DETAILS,
        "title": _plain("Details"),
        "close": _plain("Close"),
        "blocks": blocks,
    }


def no_details_view() -> Block:
    return {
        "type": "modal",
        "callback_id": names.DETAILS,
        "title": _plain("Details"),
        "close": _plain("Close"),
        "blocks": [section("There is no errand in this thread.")],
    }


def _step_lines(details: Details) -> list[str]:
    lines = [f"{STEP_SIGNS[s.state]} {written_line(s.title, STEP)}" for s in details.steps]
    if len(lines) <= STEPS:
        return lines
    left = sum(step.state is not StepState.DONE for step in details.steps[STEPS:])
    return [*lines[:STEPS], f"… {len(lines) - STEPS} more, {left} of them not done"]


def _change_lines(details: Details) -> list[str]:
    """Files by name, as many as fit; what is left out is said."""
    if not details.changes:
        return []
    shown = details.changed[:FILES]
    lines = [f"{code(change.path, STEP)} {file_lines(change)}" for change in shown]
    more = details.files - len(shown)
    left = [f"… {more} more" if shown else ""] if more > 0 else []
    return [written_line(details.changes, LINE), *lines, *filter(None, left)]


def _hosts(hosts: Sequence[str]) -> list[str]:
    shown = [code(host, STEP) for host in hosts[:HOSTS]]
    more = [f"{len(hosts) - HOSTS} more"] if len(hosts) > HOSTS else []
    return [", ".join([*shown, *more])] if shown else []


def _part(title: str, lines: Sequence[str]) -> list[Block]:
    return [section(text) for text in _joined([f"*{title}*", *lines])] if lines else []


def errand_blocks(errands: Sequence[Errand], *, empty: str) -> list[Block]:
    """A list of tasks, each with what can be done about it."""
    if not errands:
        return [context([empty])]
    return [block for errand in errands[:ERRANDS] for block in _errand(errand)]


def _errand(errand: Errand) -> list[Block]:
    sign = RUNNING if errand.live else ENDED
    title = written_line(errand.title, LINE)
    facts = " · ".join([escape(defuse(errand.repo)[:LINE]), *_figures(errand)])
    there = errand.conversation
    buttons = [
        *([_stop_there(there.place, there.thread)] if errand.live and there.thread else []),
        *([link_button("Open thread", errand.link, "thread")] if _web(errand.link) else []),
        *([link_button("Open pull request", errand.pull_url, "pull")] if _web(errand.pull_url) else []),
    ]  # fmt: skip
    return [section(f"{sign} *{title}*\n{facts}"), *([actions(buttons)] if buttons else [])]


def _stop_there(place: str, thread: str) -> Block:
    return button("Stop", names.STOP_THERE, value=f"{place}:{thread}", style="danger")


def _figures(errand: Errand) -> list[str]:
    figures = [written_line(errand.state, STEP)]
    if errand.seconds is not None:
        figures.append(duration(errand.seconds))
    if errand.cost_usd is not None:
        figures.append(money(errand.cost_usd))
    return figures


def home_view(
    errands: Sequence[Errand], questions: Sequence[Question], offer: Offer, house: House
) -> Block:
    """App Home: what is mine, what waits for me, and who runs this."""
    live = [errand for errand in errands if errand.live]
    ended = [errand for errand in errands if not errand.live]
    blocks = [
        actions([button("New errand", names.NEW, value=names.NEW, style="primary")]),
        *([_title("Waits for you"), *map(_question, questions[:ERRANDS])] if questions else []),
        _title("Under way"),
        *errand_blocks(live, empty="Nothing of yours is under way."),
        *([_title("Ended"), *errand_blocks(ended, empty="")] if ended else []),
        divider(),
        _title("Here"),
        *_house(house, offer),
    ]
    return {"type": "home", "blocks": blocks[:100]}


def _question(question: Question) -> Block:
    there = question.conversation
    return section(f"{written_line(question.text, LINE)} (in <#{there.place}>)")


def _house(house: House, offer: Offer) -> list[Block]:
    lines = []
    if offer.default:
        lines.append(f"In direct messages I take {code(offer.default, LINE)} to be meant.")
    who = ", ".join(person(operator) for operator in house.operators[:ERRANDS])
    lines.append(f"Run by {who}." if who else "Nobody is named who may change what I may do.")
    if not house.reaches:
        lines.append("No repository is open to you.")
    for repo, hosts in house.reaches[:REPOS]:
        reach = ", ".join(code(host, STEP) for host in hosts[:5]) or "nothing but the models"
        more = f" and {len(hosts) - 5} more" if len(hosts) > 5 else ""  # noqa: PLR2004  as many as fit a line
        lines.append(f"• {code(repo, LINE)} may reach {reach}{more}")
    if len(house.reaches) > REPOS:
        lines.append(f"… {len(house.reaches) - REPOS} more repositories")
    return [section(page) for page in _joined(lines)]


def _joined(lines: Sequence[str]) -> list[str]:
    """Lines in texts that fit a section each."""
    texts: list[str] = []
    for line in lines:
        if texts and len(texts[-1]) + len(line) < SAID:
            texts[-1] += f"\n{line}"
        else:
            texts.append(line)
    return texts


def _title(text: str) -> Block:
    return {"type": "header", "text": _plain(text)}


def _web(url: str) -> bool:
    return url.startswith(("https://", "http://"))


def _input(
    name: str, label: str, element: Block, *, optional: bool = False, hint: str = ""
) -> Block:
    return {
        "type": "input",
        "block_id": name,
        "label": _plain(label),
        "element": element,
        "optional": optional,
        **({"hint": _plain(hint)} if hint else {}),
    }


def _modal(
    callback: str, title: str, submit: str, blocks: Sequence[Block], origin: Origin
) -> Block:
    return {
        "type": "modal",
        "callback_id": callback,
        "title": _plain(title),
        "submit": _plain(submit),
        "close": _plain("Cancel"),
        "private_metadata": origin.dumped(),
        "blocks": list(blocks),
    }


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": text}
