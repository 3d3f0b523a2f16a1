"""Says hello."""


def greeting(name: str) -> str:
    """A greeting for somebody, or for everybody if the name is empty."""
    who = name.strip()
    return f"Hello {who}!"
