"""The Datastore's machine: a request that waits for what is missing."""

from statemachine import Event, State

from barwright.machines.base import Machine


class Datastore(Machine):
    """One request with `wait`; a request without never has one, a transition would cost as much as its answer."""

    idle = State("Idle", initial=True)
    processing_request = State("Processing Request")
    querying_db = State("Querying DB")
    data_found = State("Data Found")
    data_not_found = State("Data Not Found")
    requesting_fetch = State("Requesting Data Fetch")
    waiting_for_data = State("Waiting for Data")
    returning_data = State("Returning Data")
    error = State("Error")

    request = Event(idle.to(processing_request))
    query = Event(processing_request.to(querying_db))
    found = Event(querying_db.to(data_found))
    missing = Event(querying_db.to(data_not_found))
    ask = Event(data_not_found.to(requesting_fetch))
    asked = Event(requesting_fetch.to(waiting_for_data))
    # What has landed is read again, since one snapshot must say both the bars and that they are complete.
    fetched = Event(waiting_for_data.to(querying_db))
    time_up = Event(waiting_for_data.to(returning_data))
    # From not found: nobody can give it, or the time is up.
    give = Event(data_found.to(returning_data) | data_not_found.to(returning_data))
    returned = Event(returning_data.to(idle))
    fail = Event(
        processing_request.to(error)
        | querying_db.to(error)
        | requesting_fetch.to(error)
        | waiting_for_data.to(error)
        | returning_data.to(error)
    )
    reset = Event(error.to(idle))
