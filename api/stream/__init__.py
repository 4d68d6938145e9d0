"""Streams of bars: history, then the live bar, then each change, as one ordered sequence.

The hub (one for each process) holds for every series somebody follows its *state*: what one snapshot says of the bars
from the watermark on. A state never changes; a newer one takes its place. A subscription holds its *position*: what its
client has. Whenever there is a newer state it sends what differs, one message at a time, moving its position with each.
So a client that reads slowly gets fewer messages, never older ones, and costs no memory; and a position, told with each
message as `event`, is all that another process needs to go on.
"""
