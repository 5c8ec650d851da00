"""What each principal uses: requests, tokens, energy and node time, and its ledger."""
