"""What is asked of Linear's API: one GraphQL document each, and always with `first`.

Fields marked internal in Linear's schema are left out: they may go without notice.
"""

_issue = """
    id identifier title description url branchName priority
    team { key } state { name type } project { name } creator { id } delegate { id }
    labels(first: 20) { nodes { name } }
    parent { identifier title }
    children(first: 20) { nodes { identifier title state { name type } } }
    comments(first: 30, orderBy: createdAt) { nodes { id body createdAt user { id name } botActor { name } } }
    inverseRelations(first: 30) { nodes { type issue { identifier state { type } } } }
    attachments(first: 10) { nodes { title url } }
"""
_sessions = """
    agentSessions(first: 10) { nodes { id status createdAt dismissedAt appUser { id } externalLinks { url } } }
"""
_blockers = "inverseRelations(first: 50) { nodes { type issue { identifier state { type } } } }"

WHO = """
query Who {
  viewer { id displayName app }
  organization { id name urlKey }
  teams(first: 100) { nodes { key } }
}
"""

SESSION_REQUEST = f"""
query SessionRequest($id: String!) {{
  agentSession(id: $id) {{
    id url createdAt creator {{ id name email app }} appUser {{ id }} externalLinks {{ url }}
    sourceComment {{ id body createdAt user {{ id name }} }}
    comment {{
      id body createdAt user {{ id name }}
      children(first: 50, orderBy: createdAt) {{ nodes {{ id body createdAt user {{ id name }} }} }}
    }}
    issue {{ {_issue} }}
  }}
}}
"""

ISSUE_REQUEST = f"query IssueRequest($id: String!) {{ issue(id: $id) {{ {_issue} {_sessions} }} }}"

ISSUE_SESSIONS = f"""
query IssueSessions($id: String!) {{
  issue(id: $id) {{ id identifier team {{ key }} state {{ type }} delegate {{ id }} {_sessions} }}
}}
"""

SESSION_START = """
query SessionStart($id: String!) {
  agentSession(id: $id) {
    creator { id app }
    issue {
      id state { type } delegate { id }
      team { states(filter: { type: { eq: "started" } }, first: 20) { nodes { id name type position } } }
    }
  }
}
"""

SESSION_LINKS = """
query SessionLinks($id: String!) { agentSession(id: $id) { id externalLinks { url } } }
"""

SESSION_END = """
query SessionEnd($id: String!) {
  agentSession(id: $id) {
    id externalLinks { url }
    issue { id state { type } team { states(first: 50) { nodes { id name type position } } } }
  }
}
"""

LAST_WORD = """
query LastWord($id: String!) {
  agentSession(id: $id) {
    newest: activities(first: 1, filter: { type: { in: ["action", "response", "error"] } }) {
      nodes { id createdAt content { __typename } }
    }
    oldest: activities(last: 1, filter: { type: { in: ["action", "response", "error"] } }) {
      nodes { id createdAt content { __typename } }
    }
  }
}
"""

ACTIVITY = """
query Activity($session: String!, $id: ID!) {
  agentSession(id: $session) { activities(first: 1, filter: { id: { eq: $id } }) { nodes { id } } }
}
"""

CREATE_ACTIVITY = """
mutation CreateActivity($activity: AgentActivityCreateInput!) {
  agentActivityCreate(input: $activity) { success }
}
"""

UPDATE_SESSION = """
mutation UpdateSession($id: String!, $session: AgentSessionUpdateInput!) {
  agentSessionUpdate(id: $id, input: $session) { success }
}
"""

SHOW_PROGRESS = """
mutation ShowProgress($id: String!, $session: AgentSessionUpdateInput!, $activity: AgentActivityCreateInput!) {
  agentSessionUpdate(id: $id, input: $session) { success }
  agentActivityCreate(input: $activity) { success }
}
"""

SESSION_ON_ISSUE = """
mutation SessionOnIssue($input: AgentSessionCreateOnIssue!) {
  agentSessionCreateOnIssue(input: $input) { success agentSession { id } }
}
"""

UPDATE_ISSUE = """
mutation UpdateIssue($id: String!, $input: IssueUpdateInput!) { issueUpdate(id: $id, input: $input) { success } }
"""

CREATE_ISSUE = """
mutation CreateIssue($input: IssueCreateInput!) { issueCreate(input: $input) { success } }
"""

TEAM_BY_KEY = """
query TeamByKey($key: String!) { teams(filter: { key: { eq: $key } }, first: 1) { nodes { id key } } }
"""

LINK_PULL = """
mutation LinkPull($issueId: String!, $url: String!, $title: String) {
  attachmentLinkGitHubPR(issueId: $issueId, url: $url, title: $title) { success }
}
"""

ATTACH = """
mutation Attach($input: AttachmentCreateInput!) { attachmentCreate(input: $input) { success } }
"""

SUGGEST = """
query Suggest($issueId: String!, $session: String, $candidates: [CandidateRepository!]!) {
  issueRepositorySuggestions(issueId: $issueId, agentSessionId: $session, candidateRepositories: $candidates) {
    suggestions { repositoryFullName confidence }
  }
}
"""

SESSION_BLOCKERS = f"""
query SessionBlockers($id: String!) {{ agentSession(id: $id) {{ issue {{ {_blockers} }} }} }}
"""

ISSUE_BLOCKERS = f"query IssueBlockers($id: String!) {{ issue(id: $id) {{ {_blockers} }} }}"

USER_BY_ID = "query UserById($id: String!) { user(id: $id) { displayName name } }"

USER_BY_EMAIL = """
query UserByEmail($email: String!) {
  users(filter: { email: { eqIgnoreCase: $email } }, first: 1) { nodes { displayName name } }
}
"""

SESSIONS_SINCE = """
query SessionsSince($since: DateTimeOrDuration!, $after: String) {
  agentSessions(first: 10, after: $after, orderBy: updatedAt) {
    nodes {
      id url createdAt updatedAt appUser { id } creator { id name email }
      issue { id identifier title description url team { key } }
      comment { id body user { id } }
      activities(first: 50, filter: { type: { eq: "prompt" }, createdAt: { gt: $since } }) {
        nodes {
          id createdAt signal user { id name email } content { ... on AgentActivityPromptContent { body } }
        }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""

ISSUES_SINCE = """
query IssuesSince($since: DateTimeOrDuration!, $after: String) {
  issues(filter: { updatedAt: { gt: $since } }, first: 25, after: $after, orderBy: updatedAt) {
    nodes {
      id identifier title description url updatedAt team { key } state { type } delegate { id }
      agentSessions(first: 5) {
        nodes { id status createdAt dismissedAt appUser { id } creator { id } comment { id body user { id } } }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""
