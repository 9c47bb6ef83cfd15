// Calls the internal API with the generated types: publishes an invoice, follows its Event, and more.
//
// Settings: API_URL, API_OPERATOR_KEY (a restricted key with the scopes publish, catalog, audit and keys),
// API_SECRET_KEY (reads Events). With API_CLIENT_SECRET and API_PUBLISHABLE_KEY it also exchanges a
// customer session's client secret, as a front end does.

import { randomUUID } from "node:crypto";
import createClient, { type Client } from "openapi-fetch";
import type { paths } from "./ledger.js";

type Ledger = Client<paths>;
type Problem = { error: { message: string } };

function read(name: string): string {
  const value = process.env[name];
  if (value !== undefined) return value;
  console.error(`set ${name}`);
  process.exit(1);
}

function connect(key: string): Ledger {
  return createClient<paths>({ baseUrl: read("API_URL"), headers: { authorization: `Bearer ${key}` } });
}

/** The data of an answer; an error of the API ends the program with its message. */
function unwrap<Data>(answer: { data?: Data; error?: Problem }): Data {
  if (answer.data === undefined) throw new Error(answer.error?.error.message ?? "no answer");
  return answer.data;
}

async function publishInvoice(operator: Ledger, reader: Ledger): Promise<void> {
  const id = `in_${randomUUID().replaceAll("-", "")}`;
  const published = unwrap(
    await operator.PUT("/internal/v1/resources/{type}/{id}", {
      // Under an Idempotency-Key the call can be repeated after a lost answer.
      params: { path: { type: "invoice", id }, header: { "Idempotency-Key": randomUUID() } },
      body: { event_type: "invoice.created", object: { status: "open", amount_due: 2000, currency: "usd" } },
    }),
  );
  const found = unwrap(await reader.GET("/v1/events", { params: { query: { type: "invoice.created", limit: 1 } } }));
  const event = found.data[0];
  if (event === undefined || event.id !== published.id) throw new Error("its Event is missing");
  console.log("published:", event.type, event.data.object["id"] === id);
}

async function showHistory(operator: Ledger): Promise<void> {
  const customer = unwrap(await operator.POST("/internal/v1/customers", { body: { name: "Jenny Rosen" } }));
  const path = { id: customer.id };
  const history = unwrap(await operator.GET("/internal/v1/audit/objects/{id}/history", { params: { path } }));
  for (const change of history.data) {
    console.log("history:", change.type, change.events.map((event) => event.type));
  }
}

async function rollKeys(operator: Ledger): Promise<void> {
  const body = { kind: "rk" as const, name: "billing", scopes: ["publish"] };
  const created = unwrap(await operator.POST("/internal/v1/keys", { body }));
  const path = { id: created.id };
  const revoked = unwrap(await operator.POST("/internal/v1/keys/{id}/revoke", { params: { path } }));
  console.log("key:", created.scopes, created.state, "->", revoked.state);
}

async function showError(operator: Ledger): Promise<void> {
  const path = { id: "key_none" };
  const { error } = await operator.POST("/internal/v1/keys/{id}/revoke", { params: { path } });
  console.log("error:", error?.error.code);
}

async function exchange(operator: Ledger, clientSecret: string): Promise<void> {
  const frontEnd = connect(read("API_PUBLISHABLE_KEY"));
  const query = { customer_session_client_secret: clientSecret };
  const used = unwrap(await frontEnd.GET("/v1/elements/sessions", { params: { query } })).customer?.customer_session;
  if (used === undefined) throw new Error("the session has no customer");
  const records = unwrap(
    await operator.GET("/internal/v1/customer_sessions", { params: { query: { customer: used.customer } } }),
  );
  console.log("session:", records.data.filter((record) => record.id === used.id).map((record) => record.state));
}

const operator = connect(read("API_OPERATOR_KEY"));
await publishInvoice(operator, connect(read("API_SECRET_KEY")));
await showHistory(operator);
await rollKeys(operator);
await showError(operator);
const clientSecret = process.env["API_CLIENT_SECRET"];
if (clientSecret !== undefined) await exchange(operator, clientSecret);
