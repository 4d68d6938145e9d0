"""The Producer's machines: one backfill task, and one live connection, as feed works on them."""

from statemachine import Event, State

from barwright.machines.base import Machine


class HistoryTask(Machine):
    """One attempt at a backfill task, from its claim to the acknowledgement of its last record."""

    idle = State("Idle", initial=True)
    creating_topic = State("Creating Dynamic Topic")
    fetching_data = State("Fetching Data")
    publishing_dynamic = State("Publishing to Dynamic Topics")
    error = State("Error")

    create_topic = Event(idle.to(creating_topic))
    # From publishing too: a task of several records is fetched piece by piece.
    fetch = Event(creating_topic.to(fetching_data) | publishing_dynamic.to(fetching_data))
    publish = Event(fetching_data.to(publishing_dynamic))
    published = Event(publishing_dynamic.to(idle))
    # The lease is lost, the symbol stopped, or the source has nothing so fine and coarser tasks take over.
    abandon = Event(creating_topic.to(idle) | fetching_data.to(idle) | publishing_dynamic.to(idle))
    fail = Event(creating_topic.to(error) | fetching_data.to(error) | publishing_dynamic.to(error))
    reset = Event(error.to(idle))


class LiveConnection(Machine):
    """One live connection to a source, from dialling to its end."""

    idle = State("Idle", initial=True)
    connecting = State("Connecting")
    subscribing = State("Subscribing")
    publishing_fixed = State("Publishing to Fixed Topics")
    error = State("Error")

    connect = Event(idle.to(connecting))
    connected = Event(connecting.to(subscribing))
    # Again while streaming, for each market that joins later.
    subscribed = Event(subscribing.to(publishing_fixed) | publishing_fixed.to(publishing_fixed))
    # Each second's mark, never each message.
    mark = Event(publishing_fixed.to(publishing_fixed))
    disconnect = Event(connecting.to(idle) | subscribing.to(idle) | publishing_fixed.to(idle))
    fail = Event(connecting.to(error) | subscribing.to(error) | publishing_fixed.to(error))
    reset = Event(error.to(idle))
