"""The Consumers' machines: a writer's batches, and one dynamic topic as ingest reads it."""

from statemachine import Event, State

from barwright.machines.base import Machine


class LiveBatch(Machine):
    """The batches of one writer, one after the other."""

    idle = State("Idle", initial=True)
    processing_message = State("Processing Messages")
    writing_to_db = State("Writing to DB")
    updating_cache = State("Updating Redis")
    error = State("Error")

    receive = Event(idle.to(processing_message))
    processed = Event(processing_message.to(writing_to_db))
    written = Event(writing_to_db.to(updating_cache))
    updated = Event(updating_cache.to(idle))
    # Nothing of the batch is ours any more: other members have its partitions.
    drop = Event(processing_message.to(idle) | writing_to_db.to(idle))
    fail = Event(processing_message.to(error) | writing_to_db.to(error) | updating_cache.to(error))
    reset = Event(error.to(idle))


class HistoryConsumer(Machine):
    """One dynamic topic, from its assignment to its loss.

    The session's thread drives it up to `consuming`; then the writer that the topic is at home with does.
    """

    idle = State("Idle", initial=True)
    subscribing = State("Subscribing")
    consuming = State("Consuming")
    processing_message = State("Processing Messages")
    writing_to_db = State("Writing to DB")
    updating_cache = State("Updating Redis")
    error = State("Error")

    subscribe = Event(idle.to(subscribing))
    subscribed = Event(subscribing.to(consuming))
    receive = Event(consuming.to(processing_message))
    processed = Event(processing_message.to(writing_to_db))
    written = Event(writing_to_db.to(updating_cache))
    updated = Event(updating_cache.to(consuming))
    # The topic is another member's now, or gone.
    leave = Event(
        subscribing.to(idle)
        | consuming.to(idle)
        | processing_message.to(idle)
        | writing_to_db.to(idle)
        | updating_cache.to(idle)
    )
    fail = Event(
        subscribing.to(error) | processing_message.to(error) | writing_to_db.to(error) | updating_cache.to(error)
    )
    reset = Event(error.to(idle))
