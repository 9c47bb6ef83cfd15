// Contract §7.9 and §7.14: webhook endpoints, what they receive, and connected accounts.
import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { account, client, operator, until } from './ledger.mjs';

/** A receiver that answers with `statuses` in turn, then always with the last one; `got` has what it received. */
async function receiver(t, ...statuses) {
  const got = [];
  const server = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    got.push({ body: Buffer.concat(parts), signature: request.headers['stripe-signature'] });
    response.writeHead(statuses.length > 1 ? statuses.shift() : statuses[0]).end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { got, url: `http://127.0.0.1:${server.address().port}/hook` };
}

test('a webhook endpoint from create to delete shows its secret once', async () => {
  const { stripe } = await account();
  const made = await stripe.webhookEndpoints.create({
    url: 'https://example.com/hook',
    enabled_events: ['charge.failed', 'charge.succeeded'],
    metadata: { a: 'b' },
  });
  assert.match(made.secret, /^whsec_/);
  const { secret, ...shown } = made;
  assert.equal(shown.status, 'enabled');
  assert.deepEqual(await stripe.webhookEndpoints.retrieve(made.id), shown);
  assert.deepEqual((await stripe.webhookEndpoints.list()).data, [shown]);
  const disabled = await stripe.webhookEndpoints.update(made.id, { disabled: true });
  assert.deepEqual(disabled, { ...shown, status: 'disabled' });
  const moved = await stripe.webhookEndpoints.update(made.id, { url: 'https://example.com/new' });
  assert.equal(moved.url, 'https://example.com/new');
  assert.deepEqual(await stripe.webhookEndpoints.del(made.id), {
    id: made.id,
    object: 'webhook_endpoint',
    deleted: true,
  });
  await assert.rejects(stripe.webhookEndpoints.retrieve(made.id), { statusCode: 404 });
});

test('a refused delivery is tried again with a new signature until it is accepted', async (t) => {
  const { stripe } = await account();
  const { got, url } = await receiver(t, 500, 200);
  const endpoint = await stripe.webhookEndpoints.create({ url, enabled_events: ['customer.created'] });
  const customer = await stripe.customers.create({ name: 'Jérôme' });
  await until(() => got.length >= 1, 'a first attempt');
  const id = JSON.parse(got[0].body).id;
  await until(() => got.length >= 2, 'a second attempt');
  const events = got.map(({ body, signature }) =>
    stripe.webhooks.constructEvent(body, signature, endpoint.secret),
  );
  for (const event of events) {
    assert.deepEqual([event.id, event.type], [id, 'customer.created']);
    assert.deepEqual(event.data.object, customer);
    assert.equal(event.pending_webhooks, 1);
    assert.equal('account' in event, false);
  }
  const times = got.map(({ signature }) => Number(signature.match(/^t=(\d+),v1=[0-9a-f]{64}$/)[1]));
  assert.ok(times[1] > times[0], `${times}`);
  assert.throws(() => stripe.webhooks.constructEvent(got[0].body, got[0].signature, 'whsec_other'), {
    type: 'StripeSignatureVerificationError',
  });
  const delivered = async () => (await stripe.events.list({ delivery_success: true })).data;
  await until(async () => (await delivered()).length === 1, 'a delivery that succeeded');
  assert.equal((await stripe.events.retrieve(id)).pending_webhooks, 0);
  assert.deepEqual((await stripe.events.list({ delivery_success: false })).data, []);
});

test('an event that was not delivered is pending', async (t) => {
  const { stripe } = await account();
  const { got, url } = await receiver(t, 500);
  await stripe.webhookEndpoints.create({ url, enabled_events: ['*'] });
  await stripe.customers.create();
  await until(() => got.length >= 1, 'an attempt');
  const [event] = (await stripe.events.list({ delivery_success: false })).data;
  assert.deepEqual([event.type, event.pending_webhooks], ['customer.created', 1]);
  assert.deepEqual((await stripe.events.list({ delivery_success: true })).data, []);
});

test("a platform reads its connected account's objects and receives its events", async (t) => {
  const connected = await account();
  const platform = client(operator);
  const acting = { stripeAccount: connected.id };
  const { got, url } = await receiver(t, 200);
  const endpoint = await platform.webhookEndpoints.create({
    url,
    enabled_events: ['customer.created'],
    connect: true,
  });
  t.after(() => platform.webhookEndpoints.del(endpoint.id));
  const customer = await platform.customers.create({ name: 'theirs' }, acting);
  assert.equal(customer.lastResponse.stripeAccount, connected.id);
  assert.deepEqual(await platform.customers.retrieve(customer.id, {}, acting), customer);
  assert.deepEqual(await connected.stripe.customers.retrieve(customer.id), customer);
  await assert.rejects(platform.customers.retrieve(customer.id), { code: 'resource_missing' });
  await until(() => got.length >= 1, 'its event');
  const event = platform.webhooks.constructEvent(got[0].body, got[0].signature, endpoint.secret);
  assert.deepEqual([event.account, event.data.object.id], [connected.id, customer.id]);
});

test('an event destination sends thin events that a handler follows', async (t) => {
  const { stripe } = await account();
  const { got, url } = await receiver(t, 500, 200);
  const destinations = stripe.v2.core.eventDestinations;
  const made = await destinations.create({
    name: 'Books',
    type: 'webhook_endpoint',
    event_payload: 'thin',
    enabled_events: ['v1.charge.succeeded'],
    webhook_endpoint: { url },
    include: ['webhook_endpoint.signing_secret', 'webhook_endpoint.url'],
  });
  assert.equal(made.webhook_endpoint.url, url);
  assert.deepEqual((await destinations.retrieve(made.id)).webhook_endpoint, { signing_secret: null, url: null });
  await stripe.customers.create();
  const charge = await stripe.charges.create({ amount: 2000, currency: 'usd', source: 'tok_visa' });
  await until(() => got.length >= 2, 'a second attempt');

  const seen = [];
  const handler = stripe.notificationHandler(made.webhook_endpoint.signing_secret, async (notification) => {
    assert.equal(notification.type, 'v2.core.event_destination.ping');
    assert.equal((await notification.fetchEvent()).id, notification.id);
    seen.push((await notification.fetchRelatedObject()).id);
  });
  handler.on('v1.charge.succeeded', async (notification) => {
    const event = await notification.fetchEvent();
    assert.equal((await stripe.events.retrieve(event.snapshot_event)).data.object.id, charge.id);
    seen.push((await notification.fetchRelatedObject()).id);
  });
  const ping = await destinations.ping(made.id);
  await until(() => got.length >= 3, 'ping');
  assert.equal(JSON.parse(got[2].body).id, ping.id);
  for (const { body, signature } of got) await handler.handle(body, signature);
  assert.deepEqual(seen, [charge.id, charge.id, made.id]);

  const updated = await destinations.update(made.id, { name: 'Ledger', metadata: { a: 'b' } });
  assert.deepEqual([updated.name, updated.metadata], ['Ledger', { a: 'b' }]);
  assert.equal((await destinations.disable(made.id)).status_details.disabled.reason, 'user');
  assert.equal((await destinations.enable(made.id)).status_details, null);
  const listed = [];
  for await (const each of destinations.list({ limit: 1, include: ['webhook_endpoint.url'] })) listed.push(each);
  assert.deepEqual(listed.map((each) => [each.id, each.webhook_endpoint.url]), [[made.id, url]]);
  assert.equal((await destinations.del(made.id)).id, made.id);
  await assert.rejects(destinations.retrieve(made.id), { statusCode: 404, code: 'not_found' });
});
