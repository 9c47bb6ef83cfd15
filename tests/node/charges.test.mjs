// Contract §7.2 and §7.10: charges, refunds and the balance they move.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { account, only } from './ledger.mjs';

test('a charge expands to its balance transaction', async () => {
  const { stripe } = await account();
  const charge = await stripe.charges.create({
    amount: 2000,
    currency: 'usd',
    source: 'tok_visa',
    expand: ['balance_transaction'],
  });
  assert.deepEqual([charge.status, charge.paid, charge.captured], ['succeeded', true, true]);
  const transaction = charge.balance_transaction;
  assert.deepEqual([transaction.amount, transaction.fee, transaction.net], [2000, 88, 2000 - 88]);
  assert.equal(transaction.source, charge.id);
});

test("a customer's default source is charged", async () => {
  const { stripe } = await account();
  const customer = await stripe.customers.create({ source: 'tok_mastercard' });
  const charge = await stripe.charges.create({ amount: 700, currency: 'eur', customer: customer.id });
  assert.equal(charge.source.id, customer.default_source);
  assert.equal(charge.payment_method_details.card.brand, 'mastercard');
});

test('an authorised charge is captured once', async () => {
  const { stripe } = await account();
  const authorised = { amount: 5000, currency: 'usd', source: 'tok_visa', capture: false };
  const charge = await stripe.charges.create(authorised);
  assert.deepEqual([charge.captured, charge.balance_transaction], [false, null]);
  const taken = await stripe.charges.capture(charge.id, { amount: 4000 });
  assert.deepEqual([taken.captured, taken.amount_captured], [true, 4000]);
  await assert.rejects(stripe.charges.capture(charge.id), { code: 'charge_already_captured' });
});

test('a decline is a card error and leaves a failed charge', async () => {
  const { stripe } = await account();
  const declined = { amount: 2000, currency: 'usd', source: 'tok_chargeDeclinedInsufficientFunds' };
  const error = await stripe.charges.create(declined).then(assert.fail, (error) => error);
  assert.deepEqual(
    [error.type, error.statusCode, error.code, error.decline_code],
    ['StripeCardError', 402, 'card_declined', 'insufficient_funds'],
  );
  const charge = await stripe.charges.retrieve(error.charge);
  assert.deepEqual([charge.status, charge.paid, charge.failure_code], ['failed', false, 'card_declined']);
  const event = only(await stripe.events.list({ type: 'charge.failed' }));
  assert.equal(event.data.object.id, charge.id);
  assert.equal(event.request.id, error.requestId);
});

test('refunds are made until nothing is left', async () => {
  const { stripe } = await account();
  const charge = await stripe.charges.create({ amount: 2000, currency: 'usd', source: 'tok_visa' });
  const part = await stripe.refunds.create({ charge: charge.id, amount: 500, reason: 'duplicate' });
  assert.deepEqual([part.amount, part.charge, part.status], [500, charge.id, 'succeeded']);
  await assert.rejects(stripe.refunds.create({ charge: charge.id, amount: 1501 }), { param: 'amount' });
  const rest = await stripe.refunds.create({ charge: charge.id });
  assert.equal(rest.amount, 1500);
  await assert.rejects(stripe.refunds.create({ charge: charge.id }), { code: 'charge_already_refunded' });
  const whole = await stripe.charges.retrieve(charge.id, { expand: ['refunds'] });
  assert.deepEqual([whole.refunded, whole.refunds.data.map((each) => each.id)], [true, [rest.id, part.id]]);
});

test('a balance transaction of a dispute expands to the dispute', async () => {
  const { stripe } = await account();
  await stripe.charges.create({ amount: 2000, currency: 'usd', source: 'tok_createDispute' });
  const dispute = only(await stripe.disputes.list());
  const withdrawal = only(await stripe.balanceTransactions.list({ type: 'adjustment' }));
  assert.deepEqual(withdrawal, dispute.balance_transactions[0]);
  const expanded = await stripe.balanceTransactions.retrieve(withdrawal.id, { expand: ['source'] });
  assert.deepEqual(expanded.source, dispute);
});
