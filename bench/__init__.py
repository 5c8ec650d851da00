"""What the project's figures come from; everything that is simulated is named so."""
