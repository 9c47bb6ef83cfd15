"""The window of unacknowledged messages: its bounds, and where the cursor is."""

from __future__ import annotations

from ledger.stripe_cli.window import (
    ACK_SECONDS_MAX,
    ACKNOWLEDGED_MAX,
    BYTES_MAX,
    MESSAGES_MAX,
    Window,
    make_key,
)


def send(window: Window, position: int, *, size: int = 1, at: float = 0.0) -> list[str]:
    """Send the Event of a position in both renderings; returns the keys."""
    keys = [make_key(position, 0, rendering) for rendering in ("default", "latest")]
    for key in keys:
        window.add(key, position, size, at)
    window.advance(position)
    return keys


def test_the_cursor_moves_over_what_is_acknowledged_from_the_beginning_on() -> None:
    window = Window(10, ())
    first, second = send(window, 11), send(window, 15)
    assert window.position == 10
    for key in second:
        assert window.acknowledge(key)
    assert (window.position, set(window.acknowledged)) == (10, set(second))
    assert window.acknowledge(first[0])
    assert window.position == 10
    assert window.acknowledge(first[1])
    assert (window.position, window.acknowledged) == (15, [])
    window.advance(100)
    assert window.position == 100


def test_a_later_connection_knows_what_an_earlier_one_was_acknowledged() -> None:
    acknowledged = make_key(12, 1, "latest")
    window = Window(10, [acknowledged])
    assert window.is_known(acknowledged)
    assert not window.is_known(make_key(12, 1, "default"))
    assert not window.acknowledge(make_key(12, 1, "default"))
    assert window.is_known(make_key(12, 1, "default"))
    window.advance(12)
    assert (window.position, window.acknowledged) == (12, [])


def test_it_has_room_for_so_many_messages_and_bytes() -> None:
    window = Window(0, ())
    send(window, 1, size=BYTES_MAX)
    assert not window.has_room
    for rendering in ("default", "latest"):
        window.acknowledge(make_key(1, 0, rendering))
    for position in range(2, MESSAGES_MAX // 2 + 2):
        send(window, position)
        assert window.has_room == (position <= MESSAGES_MAX // 2)


def test_what_is_acknowledged_before_an_earlier_message_is_bounded_too() -> None:
    window = Window(0, ())
    send(window, 1)
    position = 1
    while window.has_room:
        position += 1
        for key in send(window, position):
            window.acknowledge(key)
    assert len(window.acknowledged) <= ACKNOWLEDGED_MAX + 1
    for stranger in range(position + 1, position + 1000):
        window.acknowledge(make_key(stranger, 0, "latest"))
    assert len(window.acknowledged) <= ACKNOWLEDGED_MAX + 1
    for noise in ("", ".", "x.y.z", "9" * 40, "-1.0.latest", "9.0.late\0st"):
        assert not window.acknowledge(noise)
        assert noise not in window.acknowledged


def test_a_message_that_is_never_acknowledged_holds_up_the_others_for_a_while_only() -> None:
    window = Window(0, ())
    early = send(window, 1, at=0.0)
    send(window, 2, at=50.0)
    assert window.take_overdue(ACK_SECONDS_MAX) == []
    assert window.take_overdue(ACK_SECONDS_MAX + 1) == early
    assert window.position == 1
