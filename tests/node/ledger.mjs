// The service under test, and accounts to call it with: each test creates its own by the internal API.
import Stripe from 'stripe';

const WAIT_MS = 10_000;

export const url = new URL(process.env.LEDGER_URL);
/** A key of the platform that all these accounts are connected to. */
export const operator = process.env.LEDGER_OPERATOR_KEY;

/** The official client with the service's address, otherwise as it comes. */
export function client(key, options = {}) {
  return new Stripe(key, { host: url.hostname, port: url.port, protocol: 'http', ...options });
}

async function post(path, body) {
  const answer = await fetch(new URL(`/internal/v1${path}`, url), {
    method: 'POST',
    headers: { authorization: `Bearer ${operator}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** A key of an account: `kind` is sk, pk or rk, the last with scopes. */
export async function key(account, kind = 'sk', scopes = []) {
  return (await post('/keys', { account, kind, scopes, name: 'node' })).key;
}

/** A new account: its id, a secret key, and a client with that key. */
export async function account() {
  const { id } = await post('/accounts', { name: 'A test' });
  const secret = await key(id);
  return { id, secret, stripe: client(secret) };
}

/** The only member of a list. */
export function only(list) {
  if (list.data.length !== 1) throw new Error(`one was expected, there are ${list.data.length}`);
  return list.data[0];
}

/** Waits until `holds()` resolves to true. */
export async function until(holds, what) {
  for (const deadline = Date.now() + WAIT_MS; !(await holds()); ) {
    if (Date.now() > deadline) throw new Error(`there was no ${what} within ${WAIT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
