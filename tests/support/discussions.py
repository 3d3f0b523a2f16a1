"""What people say on a forge."""

from integrations.reading import Comment, Discussion

A_PULL = Discussion(
    number=7,
    title="Fix the login test",
    state="open",
    author="dana",
    url="https://forge.test/acme/web/pull/7",
    body="It was flaky.",
    branches=("errand/7-fix", "main"),
    comments=(Comment(author="lee", text="Thanks!"),),
)
AN_ISSUE = A_PULL.model_copy(
    update={"number": 3, "url": "https://forge.test/acme/web/issues/3", "branches": None}
)
