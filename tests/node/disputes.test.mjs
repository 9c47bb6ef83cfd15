// Contract §7.4 to §7.7: disputes from the disputed charge to their end, and their evidence.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { account, only, until } from './ledger.mjs';

const PNG = Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex');

/** The dispute of a new charge with a test card, and a client for it. */
async function disputed(source = 'tok_createDispute') {
  const { stripe } = await account();
  const charge = await stripe.charges.create({ amount: 2000, currency: 'usd', source });
  return { stripe, charge, dispute: only(await stripe.disputes.list({ charge: charge.id })) };
}

function receipt(stripe) {
  const file = { data: PNG, name: 'receipt.png', type: 'image/png' };
  return stripe.files.create({ purpose: 'dispute_evidence', file });
}

function said(stripe, dispute, text) {
  return stripe.disputes.update(dispute.id, { evidence: { uncategorized_text: text } });
}

async function ended(stripe, dispute, status) {
  let now;
  const reached = async () => {
    now = await stripe.disputes.retrieve(dispute.id);
    return now.status === status;
  };
  await until(reached, `dispute that is ${status}`);
  return now;
}

test('a dispute is lost by closing it', async () => {
  const { stripe, charge, dispute } = await disputed();
  assert.deepEqual([dispute.status, dispute.reason, dispute.amount], ['needs_response', 'fraudulent', 2000]);
  const money = dispute.balance_transactions.map((each) => [each.amount, each.fee, each.net]);
  assert.deepEqual(money, [[-2000, 1500, -3500]]);
  assert.equal((await stripe.disputes.close(dispute.id)).status, 'lost');
  await assert.rejects(stripe.disputes.close(dispute.id), {
    type: 'StripeInvalidRequestError',
    message: 'This dispute is already closed',
  });
  assert.equal((await stripe.charges.retrieve(charge.id)).disputed, true);
  const events = await stripe.events.list({ type: 'charge.dispute.*' });
  assert.deepEqual(events.data.map((event) => event.type).reverse(), [
    'charge.dispute.created',
    'charge.dispute.funds_withdrawn',
    'charge.dispute.closed',
  ]);
});

test('a dispute is won with evidence and a file, and its charge can be refunded then', async () => {
  const { stripe, charge, dispute } = await disputed();
  await assert.rejects(stripe.refunds.create({ charge: charge.id }), { code: 'charge_disputed' });
  const file = await receipt(stripe);
  const staged = await stripe.disputes.update(dispute.id, {
    evidence: { receipt: file.id, customer_name: 'Jenny Rosen' },
    submit: false,
  });
  assert.equal(staged.status, 'needs_response');
  assert.equal(staged.evidence_details.has_evidence, true);
  const sent = await said(stripe, dispute, 'winning_evidence');
  assert.equal(sent.status, 'under_review');
  assert.deepEqual([sent.evidence.receipt, sent.evidence.customer_name], [file.id, 'Jenny Rosen']);
  const won = await ended(stripe, dispute, 'won');
  assert.deepEqual(won.balance_transactions.map((each) => each.amount), [-2000, 2000]);
  assert.equal(won.is_charge_refundable, true);
  assert.equal((await stripe.refunds.create({ charge: charge.id })).status, 'succeeded');
});

test('an inquiry escalates to a dispute that withdraws the money', async () => {
  const { stripe, dispute } = await disputed('tok_createDisputeInquiry');
  assert.equal(dispute.status, 'warning_needs_response');
  assert.deepEqual(dispute.balance_transactions, []);
  assert.equal((await said(stripe, dispute, 'escalate_inquiry_evidence')).status, 'warning_under_review');
  const escalated = await ended(stripe, dispute, 'needs_response');
  assert.deepEqual(escalated.balance_transactions.map((each) => each.amount), [-2000]);
  assert.equal(escalated.payment_method_details.card.case_type, 'chargeback');
});

test('an inquiry refunded in full is closed', async () => {
  const { stripe, charge, dispute } = await disputed('tok_createDisputeInquiry');
  await stripe.refunds.create({ charge: charge.id });
  assert.equal((await stripe.disputes.retrieve(dispute.id)).status, 'warning_closed');
});

test('evidence texts have their limit and can be unset', async () => {
  const { stripe, dispute } = await disputed();
  const stage = (evidence) => stripe.disputes.update(dispute.id, { evidence, submit: false });
  const text = 'é'.repeat(20_000);
  assert.equal((await stage({ product_description: text })).evidence.product_description, text);
  await assert.rejects(stage({ product_description: `${text}é` }), {
    param: 'evidence[product_description]',
  });
  const cleared = await stage({ product_description: '' });
  assert.equal(cleared.evidence.product_description, null);
  assert.equal(cleared.evidence_details.has_evidence, false);
});

test('evidence accepts only files of its own account, and can be expanded to them', async () => {
  const { stripe, dispute } = await disputed();
  const customer = await stripe.customers.create({ name: 'Jenny Rosen' });
  await stripe.charges.update(dispute.charge, { customer: customer.id });
  const elsewhere = await receipt((await account()).stripe);
  await assert.rejects(
    stripe.disputes.update(dispute.id, { evidence: { receipt: elsewhere.id }, submit: false }),
    { code: 'resource_missing', param: 'evidence[receipt]' },
  );
  const own = await receipt(stripe);
  await stripe.disputes.update(dispute.id, { evidence: { receipt: own.id }, submit: false });
  const expand = ['evidence.receipt', 'charge.customer'];
  const shown = await stripe.disputes.retrieve(dispute.id, { expand });
  assert.deepEqual([shown.evidence.receipt.id, shown.evidence.receipt.type], [own.id, 'png']);
  assert.equal(shown.charge.customer.name, 'Jenny Rosen');
});
