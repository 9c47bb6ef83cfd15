"""Commands on redaction jobs (contract §2.15).

What a job reaches is found in the log by `CommandEnvironment.survey_redaction`; the decision to run relies on
the versions of the job, of its roots but customers, and of their legal holds: none of them changes unseen.
What the card network reports meanwhile is recorded all the same: it cannot be refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decision, apply_and_render, render_changed
from ledger.domain import payment_intent_decisions, redaction_job_decisions
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.legal_hold import find_hold_id
from ledger.domain.payment_intent import CANCELED, SUCCEEDED, PaymentIntent
from ledger.domain.redaction_job import RedactionJob
from ledger.domain.redaction_job_decisions import ROOT_TYPES, Obstacle
from ledger.domain.redaction_roots import get_root_type, list_subjects
from ledger.errors import InvalidState, UnknownReference
from ledger.objects import fetch_own, get_target, is_visible, mode_hint
from ledger.store.journal import Change, fold_changes


async def create(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/privacy/redaction_jobs`. `reason`, `requested_by` and `first_requested_at` are an
    operator's; no client gives them."""
    params = call.parameters
    events = redaction_job_decisions.create(
        job_id=context.new_id("prj"),
        account=call.account,
        livemode=call.livemode,
        objects=params["objects"],
        validation_behavior=params["validation_behavior"],
        reason=params.get("reason"),
        requested_by=params.get("requested_by"),
        first_requested_at=params.get("first_requested_at"),
        now=now,
    )
    await _check_objects(call, context, params["objects"])
    return await apply_and_render(call, context, now, None, events)


async def update(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/privacy/redaction_jobs/{id}`"""
    state = await get_target(call, RedactionJob, context.get)
    behavior = call.parameters.get("validation_behavior")
    events = redaction_job_decisions.update(state, behavior, now=now)
    return await apply_and_render(call, context, now, state, events)


async def validate(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/privacy/redaction_jobs/{id}/validate`"""
    state = await get_target(call, RedactionJob, context.get)
    events = redaction_job_decisions.validate(state, now=now)
    return await apply_and_render(call, context, now, state, events)


async def cancel(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/privacy/redaction_jobs/{id}/cancel`: the answer shows the job as it is being canceled, as
    Stripe's does; it is canceled when the answer is there."""
    state = await get_target(call, RedactionJob, context.get)
    changes = fold_changes(redaction_job_decisions.cancel(state, now=now), state)
    return Decision(changes, await render_changed(call, context, now, changes[0].state, changes))


async def run(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/privacy/redaction_jobs/{id}/run`. What stands in the way by now lets the job fail, with an
    error as the answer."""
    state = await get_target(call, RedactionJob, context.get)
    redaction_job_decisions.check_ready(state)
    roots = await read_roots(context, state)
    scope = await context.environment.survey_redaction(state, roots, state.validated_upto)
    obstacles = [*scope.obstacles, *await find_holds(context, state, roots)]
    changes: list[Change] = []
    if not obstacles:
        streams = dict.fromkeys([*state.cancelable, *scope.cancelable])
        changes, obstacles = await _cancel_intents(context, list(streams), now)
    subjects = list_subjects(roots)
    events = redaction_job_decisions.run(
        state, subjects, obstacles, new_error_id=lambda: context.new_id("prjve"), now=now
    )
    changes += fold_changes(events, state)
    if obstacles:
        refusal = InvalidState(
            "You cannot run this redaction job any more: "
            f"{obstacles[0].message} See its validation errors, and validate it again."
        )
        return Decision(changes, refusal=refusal)
    answer = await render_changed(call, context, now, changes[-1].state, changes)
    return Decision(changes, answer, erased_subjects=subjects)


async def read_roots(context: DecisionContext, job: RedactionJob) -> list[State]:
    """The roots of a job, in the order of its lists. A decision relies on the versions of those that may get
    an owner; not on customers, which somebody may write to without a pause."""
    customers = job.objects.get("customers", ())
    roots = [
        await (context.look_up if object_id in customers else context.get)(object_id)
        for object_id in job.object_ids
    ]
    return [root for root in roots if root is not None]


async def find_holds(context: DecisionContext, job: RedactionJob, roots: Sequence[State]) -> list[Obstacle]:
    """The obstacles that the legal holds of these roots of a job are."""
    obstacles = []
    for root in roots:
        hold = await context.get(find_hold_id(root.id))
        if (obstacle := redaction_job_decisions.find_hold_obstacle(job, hold)) is not None:
            obstacles.append(obstacle)
    return obstacles


async def _check_objects(call: Call, context: DecisionContext, objects: Mapping[str, Sequence[str]]) -> None:
    """Raises UnknownReference for an id that names no object of its list's type."""
    for name, ids in objects.items():
        for index, object_id in enumerate(ids):
            state = await fetch_own(call, object_id, context.get)
            if state is not None and get_root_type(state) != ROOT_TYPES[name]:
                state = None
            if state is None or not is_visible(state, call):
                hint = mode_hint(state, type(state), call) if state is not None else ""
                noun = ROOT_TYPES[name].replace(".", " ").replace("_", " ")
                param = f"objects[{name}][{index}]"
                raise UnknownReference(noun, object_id, param=param, hint=hint)


async def _cancel_intents(
    context: DecisionContext, streams: Sequence[str], now: int
) -> tuple[list[Change], list[Obstacle]]:
    """The changes that cancel these payment intents, and those that can no longer be canceled."""
    changes: list[Change] = []
    obstacles: list[Obstacle] = []
    for stream in streams:
        intent = await context.get(stream)
        if not isinstance(intent, PaymentIntent) or intent.status in (SUCCEEDED, CANCELED):
            continue
        newest = await context.get(intent.latest_charge) if intent.latest_charge is not None else None
        charge = newest if isinstance(newest, Charge) else None
        try:
            events = payment_intent_decisions.cancel(intent, charge, {}, now=now)
        except InvalidState as refusal:
            obstacles.append(Obstacle("invalid_state", refusal.message, stream, "payment_intent"))
        else:
            changes += fold_changes(events, intent, charge)
    return ([], obstacles) if obstacles else (changes, [])
