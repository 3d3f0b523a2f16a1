"""Policies to test with."""

from pathlib import Path

from policies.load import parse_policy
from policies.model import Policy

TEAM = """\
version: 1
people:
  maintainers: ["slack:U0DANA", "github:dana"]
rules:
  - {who: ["*"], where: ["slack:C0WEB"], repos: [acme/web], agents: [claude-code], may: [start]}
  - {who: ["slack:U0LEE"], where: ["slack:*"], repos: [acme/api], agents: [script, claude-code], may: [steer, stop]}
  - {who: [maintainers], where: ["*"], repos: ["*"], agents: ["*"], may: [start, steer, stop, approve, settings]}
repos:
  acme/web:
    forge: github
    default_for: ["slack:C0WEB"]
    egress:
      profiles: [none]
      hosts: [{host: registry.acme.com}, {host: db.corp.acme.com, private: true}]
    connections: [anthropic, staging-db]
    publish: {protected: ["infra/**"], max_files: 50, max_bytes: 5MB, draft: true}
  acme/api: {forge: local}
connections:
  anthropic: {kind: llm, upstream: "https://api.anthropic.com", secret: ANTHROPIC_API_KEY, models: ["claude-*"]}
  staging-db: {kind: tcp, upstream: "db.staging.acme.internal:5432", private: true}
limits: {wall_minutes: 30, cost_usd: 2, memory: 4GB, disk: 8GiB}
"""


def policy_of(text: str) -> Policy:
    return parse_policy(text, path=Path("policy.yml"))
