"""A stand-in for Linear on this machine.

`server.linear_api()` gives a `LinearApi`: its `world` is the state, `people` act in it (and their acts send signed
webhooks), `faults` are what goes wrong next, and `requests` what was asked. `schema` checks GraphQL documents.

    async with linear_api() as linear:
        linear.webhooks.url = "http://127.0.0.1:8080/linear/webhooks"  # or not at all, for polling
        session = await linear.people.delegate(linear.world.issue("The login test is flaky"))
        linear.faults.add(faults.cut(effect=True), operation="agentActivityCreate")
        await linear.until(lambda: session.status == "complete")
        assert session.said("response") == ["Done."]
        assert linear.count() <= 40

What is known of Linear is done as Linear does it. What is not known is done in the way that is harder for a client:
people's words stand unescaped in `promptContext`, a renewed access token ends at once, lists hold other agents' sessions.
"""
