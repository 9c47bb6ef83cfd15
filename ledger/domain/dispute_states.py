"""The state machine of a dispute (contract §3.2). `TRANSITIONS` has every arrow, with the actions on it.

inquiry ─────→ warning_needs_response ─submit→ warning_under_review ─inquiry_closed→ warning_closed
                         └────────────┬escalated──────────┘
chargeback ──→ needs_response ←───────┘
compliance ──→ needs_response ─submit→ under_review ─won→ won,  ─lost→ lost
lost ─appeal_opened→ appeal_needs_response ─submit→ appeal_under_review ─won→ won,  ─lost→ lost
prevented ───→ prevented
"""

from __future__ import annotations

INITIAL_STATUSES = {
    "chargeback": "needs_response",
    "inquiry": "warning_needs_response",
    "compliance": "needs_response",
    "prevented": "prevented",
}
"""The first status of a dispute, by its kind."""

TRANSITIONS: dict[str, dict[str, str]] = {
    "warning_needs_response": {
        "submit": "warning_under_review",
        "close": "warning_closed",
        "escalated": "needs_response",
        "inquiry_closed": "warning_closed",
        "refunded": "warning_closed",
        "timeout": "warning_closed",
    },
    "warning_under_review": {
        "close": "warning_closed",
        "escalated": "needs_response",
        "inquiry_closed": "warning_closed",
        "refunded": "warning_closed",
        "timeout": "warning_closed",
    },
    "warning_closed": {},
    "needs_response": {
        "submit": "under_review",
        "close": "lost",
        "won": "won",
        "lost": "lost",
        "timeout": "lost",
    },
    "under_review": {"won": "won", "lost": "lost"},
    "won": {},
    "lost": {"appeal_opened": "appeal_needs_response"},
    "prevented": {},
    "appeal_needs_response": {"submit": "appeal_under_review", "close": "lost", "timeout": "lost"},
    "appeal_under_review": {"won": "won", "lost": "lost"},
}
"""The next status, by status and action; an action that is not listed is refused in that status.

submit, close                                         commands of the merchant
won, lost, escalated, inquiry_closed, appeal_opened   facts that the network reports
timeout                                               no response by the due date, or an old inquiry
refunded                                              the charge was fully refunded
"""

STATUSES = tuple(TRANSITIONS)

CLOSED_STATUSES = frozenset({"won", "lost", "warning_closed", "prevented"})
"""In these statuses the merchant can no longer respond. Only the network can open a lost dispute again, for
an appeal."""


LOST_STATUSES = frozenset({"lost", "appeal_needs_response", "appeal_under_review"})
"""In these statuses a dispute has been lost, and not won afterwards."""


def get_statuses_allowing(action: str) -> frozenset[str]:
    """The statuses in which `action` is possible."""
    return frozenset(status for status, actions in TRANSITIONS.items() if action in actions)
