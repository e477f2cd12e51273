"""From a result URL to a verified object in the team's storage; workers and the gallery enter it."""
