"""From a result URL to a verified object in the team's storage; workers, gallery, links and DAGs enter it."""
