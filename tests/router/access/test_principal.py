"""Who sends a request."""

from __future__ import annotations

from router.access.principal import ALL_SCOPES, anonymous


def test_a_client_without_a_key_is_its_address():
    """It is counted by its address, owns nothing and sees all that nobody owns."""
    client = anonymous("10.0.0.5")
    assert ("client:10.0.0.5", "anonymous") == (client.id, client.name)
    assert ("", True) == (client.owner, client.sees_all)
    assert ALL_SCOPES == client.scopes
