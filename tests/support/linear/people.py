"""What people (and automations) do in Linear. Each act tells the app, and returns when it has answered."""

from dataclasses import dataclass

from tests.support.linear import payloads, sessions
from tests.support.linear.entities import Comment, Issue, Reaction, Relation, Session, Team, User
from tests.support.linear.oauth import OAuth
from tests.support.linear.webhooks import Webhooks
from tests.support.linear.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """`by` is Dana where a test does not say."""

    world: World
    webhooks: Webhooks
    oauth: OAuth

    async def delegate(
        self, issue: Issue, *, by: User | None = None, automation: bool = False
    ) -> Session:
        """Hand an issue over to the agent; an automation stands for nobody."""
        actor = None if automation else by or self.world.dana
        self.world.change(issue, {"delegate": self.world.app}, by=actor)
        session = sessions.begin(self.world, issue, creator=actor)
        await self._told()
        return session

    async def unassign(self, issue: Issue, *, by: User | None = None) -> None:
        await self._change(issue, by=by, delegate=None)

    async def mention(
        self,
        issue: Issue,
        text: str,
        *,
        by: User | None = None,
        thread: Comment | None = None,
    ) -> Session:
        """`@errand text`: a session in that thread, or a new one; in the agent's own thread it is a prompt."""
        actor, world = by or self.world.dana, self.world
        root = thread.root if thread else None
        before = [c for c in world.comments if root and c.root is root]
        comment = world.comment(issue, f"@{world.app.display_name} {text}", user=actor, parent=root)
        if (session := next((s for s in world.sessions if s.comment is root), None)) is not None:
            sessions.prompt(world, session, comment.body, by=actor, comment=comment)
        else:
            kind = "issueCommentMention"
            world.news.append(payloads.notification(world, kind, issue, by=actor, comment=comment))
            session = sessions.begin(
                world, issue, creator=actor, comment=root or comment, before=before,
                source=comment if root else None,
            )  # fmt: skip
        await self._told()
        return session

    async def prompt(
        self, session: Session, text: str, *, by: User | None = None, signal: str | None = None
    ) -> None:
        """Say something in the session's thread."""
        actor = by or self.world.dana
        comment = self.world.comment(session.issue, text, user=actor, parent=session.comment)
        sessions.prompt(self.world, session, text, by=actor, signal=signal, comment=comment)
        await self._told()

    async def stop(self, session: Session, *, by: User | None = None) -> None:
        """The stop button: a prompt with a signal, and no comment."""
        sessions.prompt(self.world, session, "Stop", by=by or self.world.dana, signal="stop")
        await self._told()

    async def comment(
        self, issue: Issue, text: str, *, by: User | None = None, thread: Comment | None = None
    ) -> Comment:
        """A comment that does not mention the agent, outside of its threads."""
        actor = by or self.world.dana
        comment = self.world.comment(issue, text, user=actor, parent=thread)
        if issue.delegate is self.world.app:
            kind = "issueNewComment"
            self.world.news.append(
                payloads.notification(self.world, kind, issue, by=actor, comment=comment)
            )
        await self._told()
        return comment

    async def react(
        self, target: Issue | Comment, emoji: str, *, by: User | None = None
    ) -> Reaction:
        """A reaction; the app hears of it on its comments and on issues that it has."""
        actor, world = by or self.world.dana, self.world
        comment = target if isinstance(target, Comment) else None
        issue = target if isinstance(target, Issue) else target.issue
        made = Reaction(
            **world.stamp(), emoji=emoji, user=actor, comment=comment,
            issue=None if comment else issue,
        )  # fmt: skip
        world.reactions.append(made)
        if (comment.user if comment else issue.delegate) is world.app:
            kind = "issueCommentReaction" if comment else "issueEmojiReaction"
            told = payloads.notification(world, kind, issue, by=actor, comment=comment)
            world.news.append(payloads.reaction(told, emoji))
        await self._told()
        return made

    async def move(self, issue: Issue, state: str, *, by: User | None = None) -> None:
        """To a state by its name, or to the first of a type."""
        await self._change(issue, by=by, state=issue.team.state(state))

    async def complete(self, issue: Issue, *, by: User | None = None) -> None:
        await self.move(issue, "completed", by=by)

    async def cancel(self, issue: Issue, *, by: User | None = None) -> None:
        await self.move(issue, "canceled", by=by)

    async def edit(
        self, issue: Issue, *, title: str | None = None, description: str | None = None,
        by: User | None = None,
    ) -> None:  # fmt: skip
        given = {"title": title, "description": description}
        await self._change(issue, by=by, **{k: v for k, v in given.items() if v is not None})

    async def add_label(self, issue: Issue, name: str, *, by: User | None = None) -> None:
        await self._change(issue, by=by, label_list=[*issue.label_list, self.world.label(name)])

    async def block(self, issue: Issue, by_issue: Issue) -> None:
        """`by_issue` must be done first. There is no webhook for it."""
        made = Relation(
            **self.world.stamp(), type="blocks", issue=by_issue, related_issue=issue
        )  # fmt: skip
        self.world.relations.append(made)
        issue.updated_at = made.created_at

    async def change_teams(self, teams: list[Team]) -> None:
        """An admin changes what the app may see."""
        before, self.world.app_teams = self.world.app_teams, teams
        added = [team for team in teams if team not in before]
        removed = [team for team in before if team not in teams]
        self.world.news.append(payloads.teams_changed(self.world, added=added, removed=removed))
        await self._told()

    async def revoke(self) -> None:
        """An admin takes the app out of the workspace: no token works any more."""
        self.oauth.forget_all()
        self.world.news.append(payloads.revoked(self.world))
        await self._told()

    def grow_stale(self, session: Session) -> None:
        """Half an hour without an activity."""
        session.status = "stale"
        session.updated_at = self.world.now()

    async def _change(self, issue: Issue, *, by: User | None, **changes: object) -> None:
        self.world.change(issue, changes, by=by or self.world.dana)
        await self._told()

    async def _told(self) -> None:
        await self.webhooks.tell(self.world.news)
