"""Takes a paid image from its result URL to a verified object in the team's storage.

Operators need :func:`~.naming.check_template` when a DAG is parsed;
:func:`~.destination.resolve_destination`, :func:`~.destination.check_writable`,
:func:`~.reuse.find_finished` and :func:`~.reuse.find_occupant` before money is spent; and
:func:`~.save.save_task` afterwards.
"""
