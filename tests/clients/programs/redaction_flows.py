"""Flows of redaction jobs with the pre-release Python client, each a function: every method of the client and
of the module, synchronous and asynchronous.

    redaction_flows.py RESULTS: run all, and write the failure of each by its name, empty if it passed.
Settings: STRIPE_KEY and STRIPE_BASE.
"""

import asyncio
import inspect
import json
import os
import sys
import time
import traceback

import stripe

KEY, BASE = os.environ["STRIPE_KEY"], os.environ["STRIPE_BASE"]
BASES = {"api": BASE, "files": BASE, "connect": BASE, "meter_events": BASE}
stripe.api_key = KEY
stripe.api_base = stripe.upload_api_base = BASE
stripe.connect_api_base = stripe.meter_events_api_base = BASE
client = stripe.StripeClient(KEY, base_addresses=BASES)
jobs = client.v1.privacy.redaction_jobs
Job = stripe.privacy.RedactionJob
WAIT_SECONDS = 60
ENDS = ("ready", "failed")


def create_customer():
    return client.v1.customers.create({"name": "Jenny Rosen", "email": "jenny@example.com"}).id


def dispute_a_charge():
    charge = client.v1.charges.create({"amount": 2000, "currency": "usd", "source": "tok_createDispute"})
    return charge.id, client.v1.disputes.list({"charge": charge.id}).data[0].id


def await_status(job_id, *statuses):
    deadline = time.monotonic() + WAIT_SECONDS
    while (job := jobs.retrieve(job_id)).status not in statuses:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def create_validated(*customers, **params):
    job = jobs.create({"objects": {"customers": list(customers)}, **params})
    assert job.status == "validating", job
    return await_status(job.id, *ENDS)


def refused(action, *words):
    """The error with which an action is refused; its message has these words."""
    error = find_refusal(action)
    assert error is not None, "it was not refused"
    assert all(word in str(error) for word in words), error
    return error


def find_refusal(action):
    try:
        action()
    except stripe.InvalidRequestError as error:
        return error
    return None


def flow_client_create_retrieve_list():
    customers = [create_customer() for _ in range(2)]
    job = create_validated(*customers, expand=["objects"])
    assert (job.status, job.object, job.livemode) == ("ready", "privacy.redaction_job", False), job
    read = jobs.retrieve(job.id, {"expand": ["objects"]})
    assert read.objects.customers == customers, read
    assert read.objects.charges is None
    assert read.validation_behavior == "error"
    assert read.validation_errors.data == []
    newest = create_validated(create_customer())
    page = jobs.list({"limit": 1})
    assert ([each.id for each in page.data], page.has_more) == ([newest.id], True), page
    assert {job.id, newest.id} <= {each.id for each in page.auto_paging_iter()}
    assert job.id in [each.id for each in jobs.list({"status": "ready"}).data]
    assert job.id not in [each.id for each in jobs.list({"status": "canceled"}).data]


def flow_client_update_validate_cancel():
    charge, dispute = dispute_a_charge()
    job = jobs.create({"objects": {"charges": [charge]}, "validation_behavior": "fix"})
    job = await_status(job.id, *ENDS)
    assert (job.status, job.validation_behavior) == ("failed", "fix"), job
    assert jobs.update(job.id, {"validation_behavior": "error"}).validation_behavior == "error"
    assert jobs.validate(job.id).status == "validating"
    await_status(job.id, "failed")
    client.v1.disputes.close(dispute)
    jobs.validate(job.id)
    await_status(job.id, "ready")
    assert jobs.cancel(job.id).status == "canceling"
    assert jobs.retrieve(job.id).status == "canceled"


def flow_client_validation_errors():
    charge, dispute = dispute_a_charge()
    job = await_status(jobs.create({"objects": {"charges": [charge]}}).id, "failed")
    (error,) = jobs.validation_errors.list(job.id, {"limit": 3}).data
    assert isinstance(error, stripe.privacy.RedactionJobValidationError)
    assert (error.code, error.erroring_object.id) == ("invalid_state", dispute), error
    assert error.erroring_object.object_type == "dispute"
    # The client has no method for it.
    read = client.raw_request("get", f"{job.validation_errors.url}/{error.id}")
    assert client.deserialize(read, api_mode="V1").message == error.message
    assert [each.id for each in job.validation_errors.data] == [error.id]
    assert [each.id for each in job.validation_errors.auto_paging_iter()] == [error.id]


def flow_client_run():
    customer = create_customer()
    job = create_validated(customer)
    run = jobs.run(job.id)
    assert run.status == "redacting", run
    refused(lambda: jobs.cancel(job.id), "status of")
    refused(lambda: jobs.run(job.id), "status of")
    assert await_status(job.id, "succeeded").validation_errors.data == []
    redacted = client.v1.customers.retrieve(customer)
    assert "Jenny" not in str(redacted), redacted
    assert redacted.redaction.status == "redacted", redacted
    again = create_validated(customer)
    jobs.run(again.id)
    await_status(again.id, "succeeded")


def flow_module_methods():
    job = Job.create(objects={"customers": [create_customer()]})
    await_status(job.id, "ready")
    assert Job.retrieve(job.id).status == "ready"
    assert Job.list(limit=1).data[0].id == job.id
    assert Job.modify(job.id, validation_behavior="fix").validation_behavior == "fix"
    assert Job.list_validation_errors(job.id).data == []
    refused(lambda: Job.validate(job.id), "status of ready")
    read = Job.retrieve(job.id)
    assert read.cancel().status == "canceling"
    assert Job.retrieve(job.id).status == "canceled"
    other = Job.create(objects={"customers": [create_customer()]})
    await_status(other.id, "ready")
    assert Job.run(other.id).status == "redacting"


def flow_module_validates_by_the_object():
    charge, dispute = dispute_a_charge()
    job = Job.create(objects={"charges": [charge]})
    await_status(job.id, "failed")
    client.v1.disputes.close(dispute)
    assert Job.retrieve(job.id).validate().status == "validating"
    await_status(job.id, "ready")
    assert Job.cancel(job.id).status == "canceling"


async def flow_client_async():
    customer = (await client.v1.customers.create_async({"name": "Jenny Rosen"})).id
    job = await jobs.create_async({"objects": {"customers": [customer]}})
    await asyncio.to_thread(await_status, job.id, "ready")
    assert (await jobs.update_async(job.id, {"validation_behavior": "fix"})).validation_behavior == "fix"
    assert (await jobs.validation_errors.list_async(job.id)).data == []
    found = [each.id async for each in (await jobs.list_async({"limit": 1})).auto_paging_iter()]
    assert job.id in found
    assert (await jobs.run_async(job.id)).status == "redacting"
    other = await jobs.create_async({"objects": {"customers": [create_customer()]}})
    await asyncio.to_thread(await_status, other.id, "ready")
    assert (await jobs.cancel_async(other.id)).status == "canceling"
    assert (await jobs.retrieve_async(other.id)).status == "canceled"


async def flow_module_async():
    charge, dispute = dispute_a_charge()
    job = await Job.create_async(objects={"charges": [charge]})
    await asyncio.to_thread(await_status, job.id, "failed")
    (error,) = (await Job.list_validation_errors_async(job.id)).data
    assert error.code == "invalid_state"
    assert (await Job.modify_async(job.id, validation_behavior="fix")).status == "failed"
    await client.v1.disputes.close_async(dispute)
    assert (await (await Job.retrieve_async(job.id)).validate_async()).status == "validating"
    await asyncio.to_thread(await_status, job.id, "ready")
    assert (await Job.cancel_async(job.id)).status == "canceling"
    assert (await Job.list_async(status="canceled")).data[0].id == job.id


def flow_errors():
    error = refused(lambda: jobs.create({"objects": {"customers": ["cus_nobody"]}}), "No such customer")
    assert (error.code, error.param) == ("resource_missing", "objects[customers][0]"), error
    error = refused(lambda: jobs.create({"objects": {}}), "objects")
    assert error.param == "objects", error
    error = refused(lambda: jobs.retrieve("prj_nothing"), "No such redaction job")
    assert (error.http_status, error.param) == (404, "job"), error
    error = refused(lambda: jobs.create({"objects": {"customers": ["cus_1"]}, "validation_behavior": "x"}))
    assert error.param == "validation_behavior", error


def flow_same_key_same_answer():
    job = create_validated(create_customer())
    options = {"idempotency_key": f"run {job.id}"}
    first, second = jobs.run(job.id, options=options), jobs.run(job.id, options=options)
    assert (first.to_dict(), second.last_response.headers["Idempotent-Replayed"]) == (
        second.to_dict(),
        "true",
    )


def flow_events():
    job = create_validated(create_customer())
    jobs.cancel(job.id)
    events = client.v1.events.list(
        {"types": [f"privacy.redaction_job.{name}" for name in ("ready", "canceled")]}
    )
    of_job = [event for event in events.data if event.data.object.id == job.id]
    assert [event.type.rpartition(".")[2] for event in of_job] == ["canceled", "ready"], events
    assert isinstance(of_job[0].data.object, Job), of_job[0]


def run_flows():
    outcomes = {}
    with asyncio.Runner() as runner:  # the client's connections belong to one loop
        for name, flow in list(globals().items()):
            if name.startswith("flow_"):
                try:
                    runner.run(flow()) if inspect.iscoroutinefunction(flow) else flow()
                    outcomes[name] = ""
                except Exception:
                    outcomes[name] = traceback.format_exc()
    return outcomes


if __name__ == "__main__":
    with open(sys.argv[1], "w") as results:
        json.dump({"version": stripe.VERSION, "outcomes": run_flows()}, results)
