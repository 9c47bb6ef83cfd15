// Contract §7.1 and §7.3: customers, their sessions and what a front end gets for a session's secret.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { account, client, key, only, url } from './ledger.mjs';

test('a customer from create to delete', async () => {
  const { stripe } = await account();
  const made = await stripe.customers.create({
    name: 'Jenny Rosen',
    email: 'jenny@example.com',
    description: 'first',
    metadata: { order: '6735', shop: 'main' },
    address: { line1: '510 Townsend St', city: 'San Francisco', country: 'US' },
  });
  assert.match(made.id, /^cus_/);
  assert.deepEqual(made.address, {
    line1: '510 Townsend St',
    city: 'San Francisco',
    country: 'US',
    line2: null,
    postal_code: null,
    state: null,
  });
  assert.deepEqual(await stripe.customers.retrieve(made.id), made);

  const changed = await stripe.customers.update(made.id, {
    metadata: { shop: '', colour: 'blue' },
    description: '',
    email: 'Jenny@example.com',
  });
  assert.deepEqual(changed.metadata, { order: '6735', colour: 'blue' });
  assert.equal(changed.description, null);
  assert.equal(changed.name, 'Jenny Rosen');
  assert.equal(only(await stripe.customers.list({ email: 'Jenny@example.com' })).id, made.id);
  assert.deepEqual((await stripe.customers.list({ email: 'jenny@example.com' })).data, []);

  const stub = { id: made.id, object: 'customer', deleted: true };
  assert.deepEqual(await stripe.customers.del(made.id), stub);
  assert.deepEqual(await stripe.customers.retrieve(made.id), stub);
  assert.deepEqual((await stripe.customers.list()).data, []);
  await assert.rejects(stripe.customers.update(made.id, { name: 'x' }), {
    type: 'StripeInvalidRequestError',
    code: 'resource_missing',
    statusCode: 404,
  });
});

test('null clears a field as an empty string does', async () => {
  const { stripe } = await account();
  const made = await stripe.customers.create({ name: 'Jenny', phone: '1', address: { city: 'Berlin' } });
  const changed = await stripe.customers.update(made.id, { name: null, phone: null, address: null });
  assert.deepEqual([changed.name, changed.phone, changed.address], [null, null, null]);
});

test('a customer session has all seven components and one may be enabled', async () => {
  const { stripe } = await account();
  const customer = await stripe.customers.create();
  const components = { pricing_table: { enabled: true } };
  const session = await stripe.customerSessions.create({ customer: customer.id, components });
  assert.match(session.client_secret, /^cuss_secret_/);
  assert.equal(session.expires_at - session.created, 1800);
  assert.equal(Object.keys(session.components).length, 7);
  const enabled = Object.entries(session.components).filter(([, each]) => each.enabled);
  assert.deepEqual(enabled, [['pricing_table', { enabled: true }]]);

  const expanded = await stripe.customerSessions.create({
    customer: customer.id,
    components,
    expand: ['customer'],
  });
  assert.deepEqual(expanded.customer, customer);
  assert.notEqual(expanded.client_secret, session.client_secret);

  const two = { pricing_table: { enabled: true }, buy_button: { enabled: true } };
  await assert.rejects(stripe.customerSessions.create({ customer: customer.id, components: two }), {
    type: 'StripeInvalidRequestError',
    param: 'components',
  });
});

test('the secret of a session is exchanged once for a key that can only read its customer', async () => {
  const { id, stripe } = await account();
  const [customer, other] = [await stripe.customers.create(), await stripe.customers.create()];
  const session = await stripe.customerSessions.create({
    customer: customer.id,
    components: { customer_sheet: { enabled: true } },
  });
  const publishable = await key(id, 'pk');
  const exchange = () => {
    const query = new URLSearchParams({
      type: 'deferred_intent',
      customer_session_client_secret: session.client_secret,
    });
    return fetch(new URL(`/v1/elements/sessions?${query}`, url), {
      headers: { authorization: `Bearer ${publishable}` },
    });
  };
  const answer = await exchange();
  assert.equal(answer.status, 200);
  const granted = (await answer.json()).customer.customer_session;
  assert.equal(granted.customer, customer.id);
  assert.equal(granted.api_key_expiry, session.expires_at);

  const again = await exchange();
  assert.equal(again.status, 400);
  assert.equal((await again.json()).error.param, 'customer_session_client_secret');

  const front = client(granted.api_key);
  assert.deepEqual(await front.customers.retrieve(customer.id), customer);
  const forbidden = { type: 'StripePermissionError', statusCode: 403 };
  await assert.rejects(front.customers.retrieve(other.id), forbidden);
  await assert.rejects(front.customers.update(customer.id, { name: 'x' }), forbidden);
  await assert.rejects(front.disputes.list(), forbidden);
});
