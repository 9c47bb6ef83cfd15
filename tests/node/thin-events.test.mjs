// Contract §10: thin events, listed, retrieved and followed from notifications.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Stripe from 'stripe';
import { account } from './ledger.mjs';

const SECRET = 'whsec_dGhlIHNlY3JldCBvZiB0aGUgdGVzdHM';

/** Body and signature of what a receiver gets of a thin event. */
function webhook(stripe, thin) {
  const { changes, snapshot_event, fetchRelatedObject, lastResponse, ...pushed } = thin;
  const payload = JSON.stringify(pushed);
  return [payload, stripe.webhooks.generateTestHeaderString({ payload, secret: SECRET })];
}

/** All thin events of the account, oldest first. */
async function thinEvents(stripe, filter = {}) {
  const events = [];
  for await (const event of stripe.v2.core.events.list({ limit: 2, ...filter })) events.push(event);
  return events.reverse();
}

test('thin events are paged through with their filters', async () => {
  const { stripe } = await account();
  const made = [];
  for (let number = 0; number < 5; number += 1) made.push((await stripe.customers.create()).id);
  await stripe.charges.create({ amount: 2000, currency: 'usd', source: 'tok_visa' });
  assert.equal((await thinEvents(stripe)).length, 6);
  const filter = { types: ['v1.customer.created', 'v1.customer.updated'], created: { gt: '2020-01-01T00:00:00Z' } };
  const events = await thinEvents(stripe, filter);
  assert.deepEqual(events.map((event) => event.related_object.id), made);
  const [one] = await thinEvents(stripe, { object_id: made[2] });
  assert.equal(one.id, events[2].id);
  const first = await stripe.v2.core.events.list({ limit: 4 });
  assert.equal(first.previous_page_url, null);
  const second = await stripe.rawRequest('GET', first.next_page_url);
  assert.equal(second.next_page_url, null);
  const back = await stripe.rawRequest('GET', second.previous_page_url);
  assert.deepEqual(back.data.map((event) => event.id), first.data.map((event) => event.id));
});

test('a notification leads to its event and its object', async () => {
  const { stripe } = await account();
  const made = await stripe.customers.create({ name: 'one' });
  await stripe.customers.update(made.id, { name: 'two' });
  for (const thin of await thinEvents(stripe)) {
    const notification = stripe.parseEventNotification(...webhook(stripe, thin), SECRET);
    const event = await notification.fetchEvent();
    assert.equal(event.id, thin.id);
    assert.equal(event.type, notification.type);
    const snapshot = await stripe.events.retrieve(event.snapshot_event);
    assert.equal(`v1.${snapshot.type}`, event.type);
    assert.deepEqual(event.changes?.before, snapshot.data.previous_attributes);
    for (const source of [notification, thin, await stripe.v2.core.events.retrieve(thin.id)]) {
      const related = await source.fetchRelatedObject();
      assert.deepEqual([related.id, related.name], [made.id, 'two']);
    }
  }
});

test('a notification handler gets its types, and the fallback the others', async () => {
  const { stripe } = await account();
  const customer = await stripe.customers.create();
  const charge = await stripe.charges.create({ amount: 2000, currency: 'usd', source: 'tok_visa' });
  const seen = [];
  const handler = stripe.notificationHandler(SECRET, async (notification, client, details) => {
    seen.push([notification.related_object.id, details.isKnownEventType]);
  });
  handler.on('v1.charge.succeeded', async (notification, client) => {
    seen.push([(await client.charges.retrieve(notification.related_object.id)).id, 'v1.charge.succeeded']);
  });
  for (const thin of await thinEvents(stripe)) await handler.handle(...webhook(stripe, thin));
  assert.deepEqual(seen, [[customer.id, true], [charge.id, 'v1.charge.succeeded']]);
});

test('errors of /v2 are those of the client', async () => {
  const { stripe } = await account();
  const refused = await stripe.v2.core.events.list({ types: ['v1.charge.suceeded'] }).then(assert.fail, (e) => e);
  assert.ok(refused instanceof Stripe.errors.StripeInvalidRequestError);
  assert.deepEqual([refused.code, refused.param, refused.statusCode], ['invalid_fields', 'types[0]', 400]);
  const missing = await stripe.v2.core.events.retrieve('evt_thin_none').then(assert.fail, (e) => e);
  assert.ok(missing instanceof Stripe.errors.StripeInvalidRequestError);
  assert.deepEqual([missing.code, missing.statusCode], ['not_found', 404]);
});
