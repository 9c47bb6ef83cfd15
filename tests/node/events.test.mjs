// Contract §7.8: the feed of Events, its filters and its pages.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { account, only } from './ledger.mjs';

test('an event has its request and the previous attributes', async () => {
  const { stripe } = await account();
  const made = await stripe.customers.create({ name: 'one', metadata: { a: '1' } });
  const changed = await stripe.customers.update(made.id, { name: 'two', metadata: { b: '2' } });
  const event = only(await stripe.events.list({ type: 'customer.updated' }));
  assert.equal(event.request.id, changed.lastResponse.requestId);
  assert.match(event.request.idempotency_key, /^stripe-node-retry-/);
  assert.deepEqual(event.data.previous_attributes, { name: 'one', metadata: { b: null } });
  assert.deepEqual(event.data.object, changed);
  assert.deepEqual(await stripe.events.retrieve(event.id), event);
});

test('events are found by group, by names and by time', async () => {
  const { stripe } = await account();
  const begun = Math.floor(Date.now() / 1000);
  await stripe.customers.create();
  await stripe.charges.create({ amount: 2000, currency: 'usd', source: 'tok_createDispute' });
  const types = async (filter) => (await stripe.events.list(filter)).data.map((event) => event.type);
  const dispute = ['charge.dispute.funds_withdrawn', 'charge.dispute.created'];
  assert.deepEqual(await types({ type: 'charge.dispute.*' }), dispute);
  assert.deepEqual(await types({ types: ['charge.succeeded', 'customer.created'] }), [
    'charge.succeeded',
    'customer.created',
  ]);
  assert.equal((await types({ created: { gte: begun - 60 } })).length, 4);
  assert.deepEqual(await types({ created: { lt: begun - 60 } }), []);
});

test('250 events are paged through forwards and backwards', async () => {
  const { stripe } = await account();
  const made = [];
  for (let batch = 0; batch < 10; batch += 1) {
    const several = Array.from({ length: 25 }, (_, i) => stripe.customers.create({ name: `${batch}-${i}` }));
    made.push(...(await Promise.all(several)).map((customer) => customer.id));
  }
  const seen = [];
  for await (const event of stripe.events.list({ limit: 100 })) seen.push(event);
  assert.deepEqual(new Set(seen.map((event) => event.data.object.id)), new Set(made));
  const newestFirst = seen.map((event) => event.id);
  assert.equal(newestFirst.length, 250);
  assert.equal(new Set(newestFirst).size, 250);

  const back = [];
  const newer = stripe.events.list({ limit: 100, ending_before: newestFirst.at(-1) });
  for await (const event of newer) back.push(event.id);
  assert.deepEqual(back, newestFirst.slice(0, -1).reverse());

  const some = await stripe.events.list({ limit: 100 }).autoPagingToArray({ limit: 130 });
  assert.deepEqual(some.map((event) => event.id), newestFirst.slice(0, 130));
});
