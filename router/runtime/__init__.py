"""What work runs on: threads, turns, sleeps that can be ended, files, clocks."""
