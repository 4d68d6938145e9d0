"""The Coordinator's machines: maintain's rounds, and a backfill task from its filing to its landing."""

from statemachine import Event, State

from barwright.machines.base import Machine


class Coordinator(Machine):
    """One maintain process: stands by, or is the active one and makes a round every second.

    The order of a round is a rule of the design: what is sealed is rolled up, and only what is rolled up is repaired.
    """

    standby = State("Standby", initial=True)
    active = State("Active")
    sealing = State("Sealing")
    advancing = State("Advancing Levels")
    repairing = State("Repairing")
    filing = State("Filing Tasks")
    correcting = State("Correcting")
    auditing = State("Auditing")
    notifying = State("Notifying Actors")
    error = State("Error")

    lead = Event(standby.to(active))
    seal = Event(active.to(sealing))
    advance = Event(sealing.to(advancing))
    repair = Event(advancing.to(repairing))
    # From here on each is done when it is due.
    file = Event(repairing.to(filing))
    correct = Event(repairing.to(correcting) | filing.to(correcting))
    audit = Event(repairing.to(auditing) | filing.to(auditing) | correcting.to(auditing))
    notify = Event(repairing.to(notifying) | filing.to(notifying) | correcting.to(notifying) | auditing.to(notifying))
    rest = Event(
        repairing.to(active) | filing.to(active) | correcting.to(active) | auditing.to(active) | notifying.to(active)
    )
    fail = Event(
        sealing.to(error)
        | advancing.to(error)
        | repairing.to(error)
        | filing.to(error)
        | correcting.to(error)
        | auditing.to(error)
        | notifying.to(error)
    )
    reset = Event(error.to(active))
    # The connection that held the leader's lock is gone, and with it the lead.
    resign = Event(active.to(standby) | error.to(standby))


class BackfillTask(Machine):
    """One backfill task; its states are the statuses of the table backfill_task.

    It outlives every process, so a machine is made from where the task stands: `BackfillTask("12", start="published")`.
    """

    queued = State("Queued", initial=True)
    fetching = State("Fetching")
    publishing = State("Publishing")
    published = State("Published")
    repairing = State("Repairing")
    landed = State("Landed")
    cancelled = State("Cancelled")

    claim = Event(queued.to(fetching))
    publish = Event(fetching.to(publishing))
    acknowledge = Event(publishing.to(published))
    repair = Event(published.to(repairing))
    land = Event(repairing.to(landed))
    # It failed, or its lease or its deadline has passed: again, as the next attempt.
    requeue = Event(fetching.to(queued) | publishing.to(queued) | published.to(queued) | repairing.to(queued))
    cancel = Event(
        queued.to(cancelled)
        | fetching.to(cancelled)
        | publishing.to(cancelled)
        | published.to(cancelled)
        | repairing.to(cancelled)
    )
