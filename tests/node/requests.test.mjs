// Contract §7.11 to §7.13 and §7.15: idempotency, kinds of errors, the client's pagination, files and raw requests.
import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';
import { account, client, key, only, url } from './ledger.mjs';

test('the same idempotency key gives the same object and no second event', async () => {
  const { stripe } = await account();
  const create = (name) => stripe.customers.create({ name }, { idempotencyKey: 'k' });
  const first = await create('one');
  const again = await create('one');
  assert.deepEqual(again, first);
  assert.equal(again.lastResponse.idempotencyKey, 'k');
  assert.equal(again.lastResponse.headers['idempotent-replayed'], 'true');
  await assert.rejects(create('two'), { type: 'StripeIdempotencyError', statusCode: 400 });
  assert.equal(only(await stripe.events.list()).request.idempotency_key, 'k');
});

test("the client's own retry after a cut connection makes one object", async (t) => {
  const { secret, stripe } = await account();
  let cut = 0;
  const open = new Set();
  const proxy = net.createServer((caller) => {
    const service = net.connect(url.port, url.hostname);
    open.add(caller);
    caller.on('error', () => service.destroy()).on('close', () => service.destroy());
    service.on('error', () => caller.destroy()).on('close', () => caller.destroy());
    caller.pipe(service);
    service.on('data', (answer) => {
      if (cut === 0) {
        cut += 1; // the service has answered, and the answer is lost
        caller.destroy();
      } else {
        caller.write(answer);
      }
    });
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    proxy.close();
    open.forEach((caller) => caller.destroy());
  });
  const through = client(secret, { host: '127.0.0.1', port: proxy.address().port });
  const made = await through.customers.create({ name: 'once' });
  assert.equal(cut, 1);
  assert.equal(only(await stripe.customers.list()).id, made.id);
  assert.equal(only(await stripe.events.list()).data.object.id, made.id);
});

test('each kind of error is an error class of the client', async () => {
  const { id, stripe } = await account();
  const describe = async (promise) => {
    const error = await promise.then(assert.fail, (error) => error);
    assert.match(error.requestId, /^req_/);
    return [error.type, error.statusCode, error.code];
  };
  assert.deepEqual(await describe(client('sk_test_wrong').customers.list()), [
    'StripeAuthenticationError',
    401,
    undefined,
  ]);
  const restricted = client(await key(id, 'rk', ['rak_customer_read']));
  assert.deepEqual((await restricted.customers.list()).data, []);
  assert.deepEqual(await describe(restricted.customers.create()), [
    'StripePermissionError',
    403,
    'more_permissions_required',
  ]);
  assert.deepEqual(await describe(stripe.disputes.retrieve('du_none')), [
    'StripeInvalidRequestError',
    404,
    'resource_missing',
  ]);
  assert.deepEqual(await describe(stripe.customers.create({ nmae: 'x' })), [
    'StripeInvalidRequestError',
    400,
    'parameter_unknown',
  ]);
});

test('lists are awaited, iterated and gathered', async () => {
  const { stripe } = await account();
  const ids = [];
  for (let i = 0; i < 5; i += 1) ids.unshift((await stripe.customers.create()).id);
  const page = await stripe.customers.list({ limit: 2 });
  assert.deepEqual([page.data.map((each) => each.id), page.has_more], [ids.slice(0, 2), true]);
  const iterated = [];
  for await (const customer of stripe.customers.list({ limit: 2 })) iterated.push(customer.id);
  assert.deepEqual(iterated, ids);
  const gathered = await stripe.customers.list({ limit: 2 }).autoPagingToArray({ limit: 3 });
  assert.deepEqual(gathered.map((each) => each.id), ids.slice(0, 3));
});

test('a file goes up from memory and its link serves the same bytes', async () => {
  const { stripe } = await account();
  const data = Buffer.from('%PDF-1.4\n', 'latin1');
  const file = await stripe.files.create({
    purpose: 'dispute_evidence',
    file: { data, name: 'terms.pdf', type: 'application/pdf' },
    file_link_data: { create: true },
  });
  assert.deepEqual([file.filename, file.size, file.type], ['terms.pdf', data.length, 'pdf']);
  assert.equal(only(await stripe.files.list({ purpose: 'dispute_evidence' })).id, file.id);
  const link = only(await stripe.fileLinks.list({ file: file.id }));
  const served = await fetch(link.url);
  assert.deepEqual(Buffer.from(await served.arrayBuffer()), data);
});

test('raw requests reach the same resources', async () => {
  const { stripe } = await account();
  const made = await stripe.rawRequest('POST', '/v1/customers', { name: 'raw', metadata: { a: 'b' } });
  assert.deepEqual([made.name, made.metadata], ['raw', { a: 'b' }]);
  assert.deepEqual(await stripe.rawRequest('GET', '/v1/disputes'), {
    object: 'list',
    url: '/v1/disputes',
    has_more: false,
    data: [],
  });
});
